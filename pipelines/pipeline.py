"""The pipeline: snapshot → crop → train → evaluate → select_best → convert.

One graph for the laptop and the cluster. It is made by a factory, since some of it is known when it is
compiled: the images (release tags, or digests of the sources for host processes), and what a cluster's
profile says of each step's pod.

No postponed annotations in this file: kfp reads them as types.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl

from components import images
from components.convert.component import convert
from components.crop.component import crop
from components.evaluate.component import draw, evaluate
from components.notify.component import notify
from components.select_best.component import select_best
from components.snapshot.component import snapshot
from components.train.component import train
from pipelines.cluster.profile import Profile
from pipelines.config import PipelineConfig

NAME = "defect-diffusion"


class Outputs(NamedTuple):
    """What a run leaves for people: its pages, its numbers and the reference to the model."""

    crops_report: dsl.HTML
    training_report: dsl.HTML
    evaluation_report: dsl.HTML
    decision: dsl.HTML
    metrics: dsl.Metrics
    best: dsl.Model
    model: dsl.Model


def make_pipeline(
    config: PipelineConfig, image: Callable[[str], str] = images.image, profile: Profile | None = None
) -> Any:
    """The pipeline as a kfp graph component whose parameters default to `config`.

    `image` maps a step's name to the image reference that the compiled pipeline carries; a cluster's
    `profile` has its own, and says what each step's pod asks for.
    """
    defaults = arguments(config)
    if profile is not None:
        # Imported here: a run on this machine needs no kfp-kubernetes.
        from pipelines.cluster import placement

        placement.check_processes(config.train.num_processes, profile)
        image = profile.images.reference

    def defect_diffusion(
        dataset: str = defaults["dataset"],
        base_model: str = defaults["base_model"],
        model_name: str = defaults["model_name"],
        store: str = defaults["store"],
        snapshot_settings: dict = defaults["snapshot_settings"],
        crop_settings: dict = defaults["crop_settings"],
        train_settings: dict = defaults["train_settings"],
        evaluate_settings: dict = defaults["evaluate_settings"],
        select_best_settings: dict = defaults["select_best_settings"],
        convert_settings: dict = defaults["convert_settings"],
    ) -> Outputs:
        seen = snapshot(
            config=snapshot_settings,
            crop_settings=crop_settings,
            dataset=dataset,
            base_model=base_model,
            model_name=model_name,
            store=store,
        )
        # It looks at the world outside: answered from a cache it would see nothing.
        seen.set_caching_options(False)
        cut = crop(
            config=crop_settings, dataset=dataset, dataset_revision=seen.outputs["dataset_revision"], store=store
        )
        trained = train(
            config=train_settings,
            crops=cut.outputs["crops"],
            base_model=seen.outputs["base"],
            base_revision=seen.outputs["base_revision"],
            generation=seen.outputs["generation"],
            store=store,
        )
        given: dict[str, Any] = {
            "config": evaluate_settings,
            "crops": cut.outputs["crops"],
            "checkpoints": trained.outputs["checkpoints"],
            "store": store,
            "model_name": model_name,
        }
        measured = evaluate(**given)
        if config.evaluate.shards > 1:
            # A task each, known when compiling: they leave in the store what evaluate then need not draw.
            with dsl.ParallelFor(list(range(config.evaluate.shards)), name="shards") as shard:
                drawn = draw(**given, shard=shard, shards=config.evaluate.shards)
                drawn.set_container_image(image("evaluate"))
                if profile is not None:
                    placement.place(drawn, "evaluate", profile)
            measured.after(drawn)
        chosen = select_best(
            config=select_best_settings,
            metrics=measured.outputs["metrics"],
            checkpoints=trained.outputs["checkpoints"],
            store=store,
        )
        published = convert(config=convert_settings, best=chosen.outputs["best"], model_name=model_name, store=store)
        for step, task in zip(images.STEPS, (seen, cut, trained, measured, chosen, published), strict=True):
            task.set_container_image(image(step))
            if profile is not None:
                placement.place(task, step, profile)
        return Outputs(
            crops_report=cut.outputs["report"],
            training_report=trained.outputs["report"],
            evaluation_report=measured.outputs["report"],
            decision=chosen.outputs["decision"],
            metrics=measured.outputs["metrics"],
            best=chosen.outputs["best"],
            model=published.outputs["model"],
        )

    return dsl.pipeline(
        pipeline_config=placement.of_runs(profile) if profile is not None else None,
        name=NAME,
        description="Fine-tunes Stable Diffusion on defect crops, measures every checkpoint on held-out crops, "
        "and publishes the best one as a single file.",
    )(_telling(defect_diffusion, profile))


def _telling(graph: Callable[..., Outputs], profile: Profile | None) -> Callable[..., Any]:
    """The graph, and people told in the end where the profile asks for it.

    kfp takes no outputs of a pipeline out of an exit handler: such a graph has none.
    """
    if profile is None or profile.notify is None:
        return graph
    from pipelines.cluster import placement

    told = profile.notify

    @functools.wraps(graph)
    def telling(*given: Any) -> None:
        last = notify(
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            run_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            page=told.page,
            only_failures=told.only_failures,
        )
        placement.place_notification(last, told, profile)
        with dsl.ExitHandler(last):
            graph(*given)

    signed: Any = telling
    signed.__signature__ = inspect.signature(graph).replace(return_annotation=inspect.Signature.empty)
    return signed


def arguments(config: PipelineConfig) -> dict[str, Any]:
    """The pipeline's arguments for `config`, as plain data.

    KFP parameters cannot hold null: a setting that is not given is left out, and its default, which is
    null too, stands in the step. A test holds every setting to that.
    """
    data = config.model_dump(mode="json", exclude_none=True)
    return {
        "dataset": config.dataset,
        "base_model": config.base_model,
        "model_name": config.model_name,
        "store": config.store or "",
        **{f"{step}_settings": data[step] for step in images.STEPS},
    }
