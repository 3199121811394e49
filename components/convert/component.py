"""The convert step as a KFP component."""

from kfp import dsl

from components.images import image


@dsl.container_component
def convert(
    config: dict,
    best: dsl.Input[dsl.Model],
    model_name: str,
    store: str,
    model: dsl.Output[dsl.Model],
):
    """Convert the chosen checkpoint to one file in the original layout, prove it and publish it."""
    return dsl.ContainerSpec(image=image("convert"), command=["python3", "-m", "components", "convert"], args=["{{$}}"])
