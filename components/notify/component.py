"""The notification as a KFP component: no step of its own, it runs in select_best's image when all else has ended."""

from kfp import dsl

from components.images import image


@dsl.container_component
def notify(status: dsl.PipelineTaskFinalStatus, run_id: str, run_name: str, page: str, only_failures: bool):
    """Tell a webhook how the run ended."""
    return dsl.ContainerSpec(
        image=image("select_best"), command=["python3", "-m", "components", "notify"], args=["{{$}}"]
    )
