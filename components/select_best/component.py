"""The select_best step as a KFP component."""

from kfp import dsl

from components.images import image


@dsl.container_component
def select_best(
    config: dict,
    metrics: dsl.Input[dsl.Metrics],
    checkpoints: dsl.Input[dsl.Model],
    store: str,
    best: dsl.Output[dsl.Model],
    decision: dsl.Output[dsl.HTML],
):
    """Choose one checkpoint by a metric, and say why."""
    return dsl.ContainerSpec(
        image=image("select_best"), command=["python3", "-m", "components", "select_best"], args=["{{$}}"]
    )
