"""The snapshot step as a KFP component."""

from kfp import dsl

from components.images import image


@dsl.container_component
def snapshot(
    config: dict,
    crop_settings: dict,
    dataset: str,
    base_model: str,
    model_name: str,
    store: str,
    dataset_revision: dsl.OutputPath(str),
    base: dsl.OutputPath(str),
    base_revision: dsl.OutputPath(str),
    published_revision: dsl.OutputPath(str),
    generation: dsl.OutputPath(str),
    news: dsl.OutputPath(str),
):
    """Digest the data set, the base model and what is published: the only step that always runs."""
    return dsl.ContainerSpec(
        image=image("snapshot"), command=["python3", "-m", "components", "snapshot"], args=["{{$}}"]
    )
