"""Ray workers train a network on the digits: each worker is a process of one run.

    pip install -e ".[ray]"
    python -m experiments.on_ray --workers 2 --out /shared/runs/digits

Ray places the workers on the machines of its cluster, starts them, and restarts all of them if one
fails. `jaxnn.scale.start` reads the rank, the number of workers and the address from Ray. The run
directory is on storage that all machines share, so a restarted run resumes from it.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

# Ray reads both variables on import. Only version 2 of its trainers supports JAX.
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray  # pyright: ignore[reportMissingImports]
from ray.train import (  # pyright: ignore[reportMissingImports]
    FailureConfig,
    RunConfig,
    ScalingConfig,
)
from ray.train.v2.jax import JaxTrainer  # pyright: ignore[reportMissingImports]


@dataclass(frozen=True, kw_only=True)
class Job:
    """The Ray job, and the hyper-parameters."""

    out: Path = Path("runs/on_ray")  # run directory, on storage that all workers share
    workers: int = 2  # processes, each with the devices of its machine
    platform: str = "cpu"  # platform of the workers: cpu, cuda or tpu
    restarts: int = 3  # how often Ray restarts all workers after a failure
    steps: int = 500  # training steps
    batch_size: int = 64  # examples per training step, over all workers
    learning_rate: float = 3e-3  # peak step size of Adam
    seed: int = 0  # random seed for initialization and order of the data


def worker(config: dict) -> None:
    """Trains in one process of the run. Imports jax only after its platform is set."""
    os.environ["JAX_PLATFORMS"] = config["platform"]
    import optax

    import jaxnn

    jaxnn.scale.start()
    train, test = jaxnn.split(jaxnn.datasets.digits(), 0.2, stratify="labels")
    network = jaxnn.serial(jaxnn.standardize(4.88, 6.02), jaxnn.mlp((64, 64), 10))
    run = jaxnn.fit(
        jaxnn.learner(
            network, jaxnn.classification(), lambda hparams: optax.adam(hparams["learning_rate"])
        ),
        jaxnn.resident(train, batch_size=config["batch_size"]),
        steps=config["steps"],
        key=jaxnn.keys(config["seed"]),
        hparams={"learning_rate": config["learning_rate"]},
        evaluate=jaxnn.resident(test, batch_size=512),
        rules=jaxnn.scale.fsdp,
        out=config["out"],
    )
    ray.train.report({name: x for name, x in run.result.items() if name.endswith("loss")})


def main(job: Job) -> None:
    """Starts the workers, and waits for them."""
    settings = {**asdict(job), "out": str(job.out.absolute())}
    resources = {"use_gpu": job.platform == "cuda", "use_tpu": job.platform == "tpu"}
    trainer = JaxTrainer(
        worker,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=job.workers, **resources),
        run_config=RunConfig(
            name=job.out.name,
            storage_path=str(job.out.absolute().parent / "ray"),
            failure_config=FailureConfig(max_failures=job.restarts),
        ),
    )
    trainer.fit()
    print(f"The run is in {job.out}: python -m jaxnn show {job.out}")


if __name__ == "__main__":
    main(tyro.cli(Job, description=__doc__))
