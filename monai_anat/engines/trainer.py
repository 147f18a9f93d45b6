"""Pre-training loop; one Ignite iteration is one optimizer step over all micro-batches and processes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from ignite.engine import EventEnum, Events
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from monai_anat.distributed import sum_over_processes
from monai_anat.engines.optimizers import clip_each_tensor
from monai_anat.engines.resumable import ResumableTrainer
from monai_anat.keys import INDEX
from monai_anat.methods.base import SSLMethod
from monai_anat.precision import autocast_dtype
from monai_anat.schedules import CosineSchedule, Progress, Schedule, stage_of
from monai_anat.seeding import seed_step

__all__ = ["SSLEvents", "SSLTrainer"]

logger = logging.getLogger(__name__)


class SSLEvents(EventEnum):
    """Events beyond Ignite's.

    ``OPTIMIZER_STEPPED`` fires once after every optimizer step; the teacher's moving average is updated on it.
    """

    OPTIMIZER_STEPPED = "optimizer_stepped"


class SSLTrainer(ResumableTrainer):
    """Train a self-supervised method; a killed run resumes exactly.

    An iteration takes the batch of one optimizer step, splits it into micro-batches, calls the method (wrapped in
    ``DistributedDataParallel`` if there are several processes) on each, and steps the optimizers once. The mean over
    processes and micro-batches equals one joint batch, because the denominators of the terms
    (``method.loss_denominators``) are counted over all of them first. No operation in an iteration waits for the
    device: the fused optimizers skip a step with non-finite gradients on the device, and handlers read
    ``state.skipped`` later.

    ``state.output`` is a list of one dict with ``loss`` and the unweighted terms, on the device. This is the form of
    MONAI's trainers, so its handlers read it by ``from_engine(["loss"], first=True)``. As a ``SupervisedTrainer``, it
    also works with ``--tracking mlflow`` and with MONAI's federated client; ``network`` is the method.

    Args:
        device: device of the method.
        max_epochs: number of epochs of the run.
        train_data_loader: loader from ``monai_anat.data.resumable_loader`` for exact resuming, or any loader of dicts.
        method: networks and loss terms.
        optimizers: optimizers from :func:`~monai_anat.engines.optimizers.build_optimizers`, or one optimizer.
        schedules: schedules by name, "lr" and "weight_decay", for every parameter group: the value is multiplied by
            the group's ``lr_scale``, and groups with ``scheduled=False`` keep theirs. "<optimizer>.lr" takes precedence
            over "lr" for that optimizer.
        seed: random seed of the run; torch is seeded from (seed, step, rank) before every step.
        precision: "auto", "bf16", "fp16" or "fp32", see :func:`monai_anat.precision.autocast_dtype`.
        micro_batch_size: samples per forward pass of this process; the default is the whole local batch.
        clip_norm: limit of the gradient norm of each optimizer, after unscaling; None disables clipping.
        clip_each: clip every tensor by its own norm instead of the global norm.
        compile: compile the student's networks with ``torch.compile``.
        channels_last: use the channels-last memory format for convolution weights and images.
        epoch_length: optimizer steps per epoch; the default is the loader's length.
        stage_epochs: number of epochs of each stage of a staged method; their sum must be ``max_epochs``
            (``schedule_epochs`` if given).
        train_handlers: objects with ``attach(trainer)``.
        options: for ``monai.engines.SupervisedTrainer``, and ``schedule_epochs``.

    Raises:
        ValueError: if a schedule names no optimizer or value, if a micro-batch does not divide the local batch, or if
            the stages do not add up to the run.
    """

    def __init__(
        self,
        *,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: DataLoader[Any] | Iterable[Mapping[str, Any]],
        method: SSLMethod,
        optimizers: Mapping[str, Optimizer] | Optimizer,
        schedules: Mapping[str, Schedule] | None = None,
        seed: int = 0,
        precision: str = "auto",
        micro_batch_size: int | None = None,
        clip_norm: float | None = 1.0,
        clip_each: bool = False,
        compile: bool = False,
        channels_last: bool = False,
        epoch_length: int | None = None,
        stage_epochs: Sequence[int] | None = None,
        train_handlers: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        self.optimizers = {"main": optimizers} if isinstance(optimizers, Optimizer) else dict(optimizers)
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=method,
            optimizer=next(iter(self.optimizers.values())),
            loss_function=method,
            epoch_length=epoch_length,
            non_blocking=True,
            decollate=False,
            event_names=[SSLEvents],
            seed=seed,
            **options,
        )
        self.device = torch.device(device)
        self.method = method.to(self.device)
        self.method.train()
        self.schedules = dict(schedules or {})
        self.dtype = autocast_dtype(precision, self.device)
        self.micro_batch_size = micro_batch_size
        self.stage_epochs = tuple(stage_epochs or ())
        self.clip_norm = clip_norm
        self.clip_each = clip_each
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self._owned = [_owned(optimizer, self.method) for optimizer in self.optimizers.values()]
        self._statistics = _running_statistics(self.method)
        self._check_arguments(self.schedule_epochs or max_epochs)
        if channels_last:
            self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compile:
            self.method.compile_networks()
        self.module: nn.Module = self._distributed() if self.world_size > 1 else self.method
        self.add_event_handler(Events.STARTED, self._log_short_warmups)
        self._register_handlers(train_handlers or ())

    # ------------------------------------------------------------------ progress and state

    @property
    def progress(self) -> Progress:
        """Position in the run. Inside an iteration, the step that is being made."""
        run = super().progress
        if not self.stage_epochs:
            return run
        steps_per_epoch = self.state.epoch_length
        stage, first_epoch = stage_of(run.epoch, self.stage_epochs)
        return replace(
            run,
            stage=stage,
            stage_step=run.step - first_epoch * steps_per_epoch,
            stage_steps=self.stage_epochs[stage] * steps_per_epoch,
        )

    def optimizer_kinds(self) -> dict[str, str]:
        """Class names of the optimizers; resuming with another kind is refused."""
        return {name: type(optimizer).__name__ for name, optimizer in self.optimizers.items()}

    def model_state(self) -> dict[str, Any]:
        """Return the states of the method, the optimizers and the gradient scaler."""
        return {
            "method": self.method.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "grad_scaler": self.grad_scaler.state_dict(),
        }

    def load_model_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`model_state` returned."""
        self.method.load_state_dict(state["method"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if state["grad_scaler"]:  # empty if the run was not in fp16: a new scaler then starts from its own scale
            self.grad_scaler.load_state_dict(state["grad_scaler"])

    # ------------------------------------------------------------------ one optimizer step

    # MONAI's trainers make a list of their output after the iteration
    def _iteration(self, engine: Any, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:  # type: ignore[override]
        progress = self.progress
        seed_step(self.seed, progress.step, self.rank)
        self._apply_schedules(progress)
        self.state.sample_ids = batch.get(INDEX)
        batch = self._to_device(batch)
        micro_batches = self._micro_batches(batch)
        before = [statistic.clone() for statistic in self._statistics]
        terms = self._backward(micro_batches, progress)
        self.state.grad_norm, self.state.skipped = self._step()
        self._settle_statistics(before)
        self.method.after_step(progress)
        self.fire_event(SSLEvents.OPTIMIZER_STEPPED)
        return [self._over_processes(terms)]

    def _backward(self, micro_batches: list[dict[str, Any]], progress: Progress) -> dict[str, Tensor]:
        """Compute the gradients of the mean over micro-batches; return the detached mean of each term and the loss."""
        count = len(micro_batches)
        sums: dict[str, Tensor] = {}
        for position, micro_batch in enumerate(micro_batches):
            wait = isinstance(self.module, DistributedDataParallel) and position < count - 1
            with self.module.no_sync() if wait else contextlib.nullcontext():  # type: ignore[operator]
                try:
                    terms = self._forward(self.module, micro_batch, progress)
                    self.grad_scaler.scale(terms["loss"] / count).backward()
                except RuntimeError as error:
                    if not _is_out_of_memory(error):
                        raise
                    error.__traceback__ = None  # its frames keep the activations alive
                    raise MemoryError(self._out_of_memory(micro_batch, progress)) from error
            for name, term in terms.items():
                value = term.detach() / count
                sums[name] = sums[name] + value if name in sums else value
        return sums

    def _settle_statistics(self, before: list[Tensor]) -> None:
        """Restore the running statistics if the step is skipped, and average them over processes."""
        for statistic, old in zip(self._statistics, before, strict=True):
            statistic.copy_(torch.where(self.state.skipped, old, statistic))
        shared = [statistic for statistic in self._statistics if statistic.is_floating_point()]
        if self.world_size > 1 and shared:
            means = sum_over_processes(torch.cat(shared)) / self.world_size
            torch._foreach_copy_(shared, means.split([len(statistic) for statistic in shared]))

    def _over_processes(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average each term over processes, which gives that of the joint batch."""
        if self.world_size == 1:
            return terms
        means = sum_over_processes(torch.stack([term.float() for term in terms.values()])) / self.world_size
        return dict(zip(terms, means, strict=True))

    def _forward(self, module: nn.Module, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the unweighted terms and, as "loss", their weighted sum."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            terms: dict[str, Tensor] = module(batch, progress)
        weights = self.method.loss_weights
        return {"loss": torch.stack([weights[name] * term.float() for name, term in terms.items()]).sum(), **terms}

    def _step(self) -> tuple[Tensor, Tensor]:
        """Clip, and step every optimizer unless a gradient is not finite; return the total norm and that flag."""
        for optimizer in self.optimizers.values():
            self.grad_scaler.unscale_(optimizer)
        # each optimizer by itself: large gradients of an adversary must not shorten the generator's step
        with_gradient = [[p for p in parameters if p.grad is not None] for parameters in self._owned]
        norms = [self._clip(parameters) for parameters in with_gradient if parameters] or [torch.zeros(())]
        norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        skipped = ~torch.isfinite(norm)
        for optimizer in self.optimizers.values():
            _step_unless(optimizer, skipped)
            optimizer.zero_grad(set_to_none=True)
        if self.grad_scaler.is_enabled():
            self.grad_scaler.update()
        return norm, skipped

    def _clip(self, parameters: list[nn.Parameter]) -> Tensor:
        """Clip the gradients of one optimizer; return their norm before clipping."""
        if self.clip_each and self.clip_norm is not None:
            return clip_each_tensor(parameters, self.clip_norm)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        return norm

    def _log_short_warmups(self) -> None:
        for name, schedule in self.schedules.items():
            if not isinstance(schedule, CosineSchedule) or self.rank > 0:
                continue
            warmup = schedule.warmup(self.progress)
            if warmup < schedule.warmup_epochs:
                logger.info(
                    f"The warm-up of {name} is shortened from {schedule.warmup_epochs:g} to {warmup:g} epochs, "
                    f"{schedule.max_warmup:.0%} of this {'stage' if schedule.per_stage else 'run'}."
                )

    def _apply_schedules(self, progress: Progress) -> None:
        for key, optimizer in self.optimizers.items():
            for value_name in ("lr", "weight_decay"):
                schedule = self.schedules.get(f"{key}.{value_name}", self.schedules.get(value_name))
                if schedule is None:
                    continue
                value = schedule(progress)
                for group in optimizer.param_groups:
                    if not group.get("scheduled", True):
                        continue
                    if value_name == "lr":
                        group["lr"] = value * group.get("lr_scale", 1.0)
                    elif group.get("decayed", group["weight_decay"] != 0.0):
                        group["weight_decay"] = value

    # ------------------------------------------------------------------ batches

    def _to_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        moved: dict[str, Any] = {}
        for key, value in batch.items():
            if isinstance(value, Tensor):
                image = value.ndim == 4 and value.is_floating_point()
                memory_format = self.memory_format if image else torch.preserve_format
                value = value.to(self.device, non_blocking=True, memory_format=memory_format)
            moved[key] = value
        return moved

    def _micro_batches(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """Split the local batch into equal slices with the counts that make their mean equal the joint batch."""
        tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
        size = min(len(value) for value in tensors.values())
        micro = min(self.micro_batch_size or size, size)
        if size % micro:
            raise ValueError(
                f"micro_batch_size must divide the batch of this process, got micro_batch_size={micro} for "
                f"{size} samples; nearest is {max(d for d in range(1, micro + 1) if size % d == 0)}"
            )
        number = size // micro
        counts = self.method.loss_denominators(batch)
        if counts:
            joint = sum_over_processes(torch.stack([count.float() for count in counts.values()]))
            counts = dict(zip(counts, joint / (number * self.world_size), strict=True))
        if number == 1:
            return [{**batch, **counts}]
        cut = {key: value.split(micro) for key, value in tensors.items()}
        return [{key: parts[i] for key, parts in cut.items()} | counts for i in range(number)]

    # ------------------------------------------------------------------ set-up and errors

    def _distributed(self) -> DistributedDataParallel:
        return DistributedDataParallel(
            self.method,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=self.method.find_unused_parameters,
        )

    def _check_arguments(self, max_epochs: int) -> None:
        micro = self.micro_batch_size
        if micro is not None and (not isinstance(micro, int) or micro < 1):
            raise ValueError(f"micro_batch_size must be a positive integer or None (all), got {micro}")
        if self.stage_epochs and (min(self.stage_epochs) < 1 or sum(self.stage_epochs) != max_epochs):
            raise ValueError(
                f"stage_epochs must be positive and add up to max_epochs, got stage_epochs={list(self.stage_epochs)} "
                f"(sum {sum(self.stage_epochs)}) and max_epochs={max_epochs}"
            )
        known = {
            name for value in ("lr", "weight_decay") for name in (value, *(f"{o}.{value}" for o in self.optimizers))
        }
        for name in self.schedules:
            if name not in known:
                raise ValueError(f"schedules must be among {sorted(known)}, got {name!r}")

    def _out_of_memory(self, micro_batch: dict[str, Any], progress: Progress) -> str:
        """Build the message: the largest halved micro-batch that fits, found by trying."""
        tensors = {key: value for key, value in micro_batch.items() if isinstance(value, Tensor) and value.ndim > 0}
        others = {key: value for key, value in micro_batch.items() if key not in tensors}
        size = tried = min(len(value) for value in tensors.values())
        if self.world_size > 1 and size > 1:  # a trial of one process alone would wait for the others forever
            return (
                f"a micro-batch of {size} samples does not fit into the memory of {self.device}: set "
                f"micro_batch_size={size // 2} or a smaller batch_size"
            )
        while tried > 1:
            tried //= 2
            self.method.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            part = {key: value[:tried] for key, value in tensors.items()} | others
            try:
                self._forward(self.method, part, progress)["loss"].backward()
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                continue
            return (
                f"a micro-batch of {size} samples does not fit into the memory of {self.device}; {tried} fit: "
                f"set micro_batch_size={tried} (the bundle's README describes the effect) or a smaller "
                "batch_size"
            )
        return f"not even one sample fits into the memory of {self.device}; use a smaller network or image_size"


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _owned(optimizer: Optimizer, method: SSLMethod) -> list[nn.Parameter]:
    """Return the parameters of an optimizer, in the order of the method."""
    ids = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [parameter for parameter in method.parameters() if id(parameter) in ids]


def _running_statistics(method: SSLMethod) -> list[Tensor]:
    """Return the running statistics of batch normalization, which a skipped step must not change."""
    norms = (module for module in method.modules() if isinstance(module, _BatchNorm))
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]


def _step_unless(optimizer: Optimizer, skipped: Tensor) -> None:
    """Step unless ``skipped``; fused optimizers decide on the device, others need one read by the host."""
    step: Callable[[], Any] = optimizer.step
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
        step()
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
    elif not skipped:
        step()
