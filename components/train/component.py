"""The train step as a KFP component."""

from kfp import dsl

from components.images import image


@dsl.container_component
def train(
    config: dict,
    crops: dsl.Input[dsl.Dataset],
    base_model: str,
    base_revision: str,
    generation: str,
    store: str,
    checkpoints: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
):
    """Fine-tune the base model on the crops; checkpoints go to the object store."""
    return dsl.ContainerSpec(image=image("train"), command=["python3", "-m", "components", "train"], args=["{{$}}"])
