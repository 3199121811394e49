"""The evaluate step as a KFP component, and the part of it that is divided among pods."""

from kfp import dsl

from components.images import image


@dsl.container_component
def evaluate(
    config: dict,
    crops: dsl.Input[dsl.Dataset],
    checkpoints: dsl.Input[dsl.Model],
    store: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    model_name: str = "",
    published_revision: str = "",
):
    """Generate with every checkpoint and measure it against held-out real crops."""
    return dsl.ContainerSpec(
        image=image("evaluate"), command=["python3", "-m", "components", "evaluate"], args=["{{$}}"]
    )


@dsl.container_component
def draw(
    config: dict,
    crops: dsl.Input[dsl.Dataset],
    checkpoints: dsl.Input[dsl.Model],
    store: str,
    shard: int,
    shards: int,
    model_name: str = "",
    published_revision: str = "",
):
    """Generate with one shard's checkpoints, for the evaluate step to measure."""
    return dsl.ContainerSpec(image=image("evaluate"), command=["python3", "-m", "components", "draw"], args=["{{$}}"])
