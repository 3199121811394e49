"""The crop step as a KFP component."""

from kfp import dsl

from components.images import image


@dsl.container_component
def crop(
    config: dict,
    dataset: str,
    dataset_revision: str,
    crops: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    store: str = "",
):
    """Cut square crops around the annotated defects and split them by source image."""
    return dsl.ContainerSpec(image=image("crop"), command=["python3", "-m", "components", "crop"], args=["{{$}}"])
