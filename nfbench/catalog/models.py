"""Every net by name: one row a model, and `find`, which reads a name as a person types it.

Sizes and rates are those of training: NFNet-F and NF-RegNet from google-deepmind/deepmind-research, nfnets/base.py;
EfficientNet from Tan & Le 2019 and the TPU reference; where a net's authors publish no rate it is 0. NF-ResNets stand
at the px and rates of their ResNets, and a ``bn-`` twin at those of its NF net, so that the pair differs in the
normalization alone. The ladder is that of Brock et al. 2021, Table 2, whose third rung is the NFNet itself.

`counted` reads ``macs.csv``, which ``nfbench flops --all --format csv`` writes and a test counts again. A user's own
factory, ``package.module:factory``, is called by `call_factory`. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nfbench.errors import UnknownModel, UnsupportedWorkload, of_device, reason
from nfbench.units import nearest

Norm = Literal["none", "batch"]
RecipeName = Literal["nfnet", "bn-resnet", "efficientnet"]


@dataclass(frozen=True)
class Net:
    """One net: how timm builds it, the side of its square images in px, and its rates in training (0 to 1).

    ``norm``, ``recipe`` and the px are None where only the built net can tell: ``timm:NAME`` and
    ``package.module:factory``. Block i of n (counted from 0) is dropped at ``drop_path_rate`` · i / n.
    ``weights`` names the released weights whose accuracy stands for the net where the paper reports none, and which
    ``--weights published`` takes: none that saw more than ImageNet, where there are others. ``twin_of``
    names the NF net whose graph a batch-normalized twin has.
    """

    name: str
    family: str
    config: str
    norm: Norm | None = None
    recipe: RecipeName | None = None
    train_px: int | None = None
    test_px: int | None = None
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    kwargs: tuple[tuple[str, object], ...] = ()
    weights: str | None = None
    source: Literal["catalogue", "timm", "factory"] = "catalogue"
    twin_of: str | None = None

    @property
    def scales_survivors(self) -> bool:
        """Whether stochastic depth divides by the probability to survive: in timm's rule, not in an NF net or twin."""
        return self.norm != "none" and self.twin_of is None


def _tagged(config: str, tag: str | None) -> str | None:
    return f"{config}.{tag}" if tag else None


def _nfnet(name: str, config: str, train_px: int, test_px: int, drop_rate: float, **kwargs: object) -> Net:
    return Net(name, "nfnet", config, "none", "nfnet", train_px, test_px, drop_rate, 0.25, tuple(kwargs.items()))


def _light(name: str, config: str, train_px: int, test_px: int, tag: str) -> Net:
    return Net(name, "nfnet-light", config, "none", "nfnet", train_px, test_px, weights=_tagged(config, tag))


def _nf_regnet(name: str, config: str, train_px: int, test_px: int, drop: float, tag: str | None = None) -> Net:
    weights = _tagged(config, tag)
    return Net(name, "nf-regnet", config, "none", "nfnet", train_px, test_px, drop, 0.1, weights=weights)


def _nf_resnet(name: str, config: str, tag: str | None = None, **kwargs: object) -> Net:
    weights, arguments = _tagged(config, tag), tuple(kwargs.items())
    return Net(name, "nf-resnet", config, "none", "nfnet", 224, 224, kwargs=arguments, weights=weights)


def _resnet(family: str, name: str, config: str, tag: str | None = None, test_px: int = 224) -> Net:
    return Net(name, family, config, "batch", "bn-resnet", 224, test_px, weights=_tagged(config, tag))


def _efficientnet(name: str, config: str, px: int, drop: float, tag: str | None = None) -> Net:
    weights = _tagged(config, tag)
    return Net(name, "efficientnet", config, "batch", "efficientnet", px, px, drop, 0.2, weights=weights)


def _timm_efficientnet(config: str, train_px: int, test_px: int, drop: float, tag: str | None = None) -> Net:
    name, weights = "timm-" + config.replace("_", "-"), _tagged(config, tag)
    return Net(name, "efficientnet-timm", config, "batch", "efficientnet", train_px, test_px, drop, 0.2, (), weights)


def _tiny_nf(name: str, config: str, **kwargs: object) -> Net:
    return Net(name, "tiny", config, "none", "nfnet", 32, 32, kwargs=tuple(kwargs.items()))


def _tiny_bn(name: str, config: str, recipe: RecipeName, **kwargs: object) -> Net:
    return Net(name, "tiny", config, "batch", recipe, 32, 32, kwargs=tuple(kwargs.items()))


def _twin(net: Net, recipe: RecipeName) -> Net:
    family = f"bn-{net.family}"
    return replace(
        net, name=f"bn-{net.name}", family=family, norm="batch", recipe=recipe, weights=None, twin_of=net.name
    )


def _rung(net: Net, rung: str, **kwargs: object) -> Net:
    arguments = (*net.kwargs, ("extra_conv", False), *kwargs.items())
    return replace(net, name=f"{net.name}-{rung}", family="nfnet-ladder", kwargs=arguments)


_POOL = {"stem_type": "deep_pool"}
_DEFAULT_WIDTH = {"channels": (256, 512, 1024, 2048), "num_features": 4096}

_NFNETS = (
    _nfnet("nfnet-f0", "dm_nfnet_f0", 192, 256, 0.2),
    _nfnet("nfnet-f1", "dm_nfnet_f1", 224, 320, 0.3),
    _nfnet("nfnet-f2", "dm_nfnet_f2", 256, 352, 0.4),
    _nfnet("nfnet-f3", "dm_nfnet_f3", 320, 416, 0.4),
    _nfnet("nfnet-f4", "dm_nfnet_f4", 384, 512, 0.5),
    _nfnet("nfnet-f5", "dm_nfnet_f5", 416, 544, 0.5),
    _nfnet("nfnet-f6", "dm_nfnet_f6", 448, 576, 0.5),
    _nfnet("nfnet-f7", "dm_nfnet_f6", 480, 608, 0.5, depths=(8, 16, 48, 24)),
)

_NF_RESNETS = (
    _nf_resnet("nf-resnet26", "nf_resnet26"),
    _nf_resnet("nf-resnet50", "nf_resnet50", "ra2_in1k"),
    _nf_resnet("nf-resnet101", "nf_resnet101"),
    _nf_resnet("nf-resnet152", "nf_resnet50", depths=(3, 8, 36, 3)),
    _nf_resnet("nf-resnet200", "nf_resnet50", depths=(3, 24, 36, 3)),
)

_TINY_NF = (
    _tiny_nf("tiny-nfnet-s", "test_nfnet", channels=(32, 32, 64, 96), stem_chs=64),
    _tiny_nf("tiny-nfnet", "test_nfnet"),
    _tiny_nf("tiny-nfnet-l", "test_nfnet", depths=(2, 2, 2, 2), channels=(64, 128, 192, 256), stem_chs=256),
    _tiny_nf("tiny-nf-resnet-s", "nf_resnet26", depths=(1,) * 4, channels=(32, 64, 128, 256), stem_chs=16, **_POOL),
    _tiny_nf("tiny-nf-resnet", "nf_resnet26", depths=(1,) * 4, channels=(64, 128, 256, 512), stem_chs=32, **_POOL),
    _tiny_nf("tiny-nf-resnet-l", "nf_resnet26", depths=(2,) * 4, channels=(128, 256, 384, 640), stem_chs=64, **_POOL),
)

NETS: tuple[Net, ...] = (
    *_NFNETS,
    _light("nfnet-l0", "nfnet_l0", 224, 288, "ra2_in1k"),
    _light("eca-nfnet-l0", "eca_nfnet_l0", 224, 288, "ra2_in1k"),
    _light("eca-nfnet-l1", "eca_nfnet_l1", 256, 320, "ra2_in1k"),
    _light("eca-nfnet-l2", "eca_nfnet_l2", 320, 384, "ra3_in1k"),
    _nf_regnet("nf-regnet-b0", "nf_regnet_b0", 192, 224, 0.2),
    _nf_regnet("nf-regnet-b1", "nf_regnet_b1", 224, 256, 0.2, "ra2_in1k"),
    _nf_regnet("nf-regnet-b2", "nf_regnet_b2", 240, 272, 0.3),
    _nf_regnet("nf-regnet-b3", "nf_regnet_b3", 288, 320, 0.3),
    _nf_regnet("nf-regnet-b4", "nf_regnet_b4", 320, 384, 0.4),
    _nf_regnet("nf-regnet-b5", "nf_regnet_b5", 384, 456, 0.4),
    *_NF_RESNETS,
    _resnet("resnet", "resnet26", "resnet26", "bt_in1k"),
    _resnet("resnet", "resnet50", "resnet50"),
    _resnet("resnet", "resnet101", "resnet101", "a1h_in1k"),
    _resnet("resnet", "resnet152", "resnet152", "a1h_in1k"),
    _resnet("resnet", "resnet200", "resnet200"),
    _resnet("resnetv2", "resnetv2-50", "resnetv2_50", "a1h_in1k"),
    _resnet("resnetv2", "resnetv2-101", "resnetv2_101", "a1h_in1k"),
    _resnet("resnetv2", "resnetv2-152", "resnetv2_152"),
    _resnet("senet", "seresnet50", "seresnet50"),
    _resnet("senet", "seresnet152", "seresnet152", test_px=288),  # the px at which it has Table 3's MACs
    _resnet("senet", "seresnext50", "seresnext50_32x4d", "racm_in1k"),
    _resnet("senet", "seresnext101d", "seresnext101d_32x8d", "ah_in1k"),
    _efficientnet("efficientnet-b0", "tf_efficientnet_b0", 224, 0.2, "aa_in1k"),
    _efficientnet("efficientnet-b1", "tf_efficientnet_b1", 240, 0.2, "aa_in1k"),
    _efficientnet("efficientnet-b2", "tf_efficientnet_b2", 260, 0.3, "aa_in1k"),
    _efficientnet("efficientnet-b3", "tf_efficientnet_b3", 300, 0.3, "aa_in1k"),
    _efficientnet("efficientnet-b4", "tf_efficientnet_b4", 380, 0.4, "aa_in1k"),
    _efficientnet("efficientnet-b5", "tf_efficientnet_b5", 456, 0.4, "aa_in1k"),
    _efficientnet("efficientnet-b6", "tf_efficientnet_b6", 528, 0.5, "aa_in1k"),
    _efficientnet("efficientnet-b7", "tf_efficientnet_b7", 600, 0.5, "aa_in1k"),
    _efficientnet("efficientnet-b8", "tf_efficientnet_b8", 672, 0.5, "ra_in1k"),
    _timm_efficientnet("efficientnet_b0", 224, 224, 0.2, "ra_in1k"),
    _timm_efficientnet("efficientnet_b1", 240, 288, 0.2, "ra4_e3600_r240_in1k"),
    _timm_efficientnet("efficientnet_b2", 256, 288, 0.3, "ra_in1k"),
    _timm_efficientnet("efficientnet_b3", 288, 320, 0.3, "ra2_in1k"),
    _timm_efficientnet("efficientnet_b4", 320, 384, 0.4, "ra2_in1k"),
    _timm_efficientnet("efficientnet_b5", 448, 448, 0.4),  # its weights saw ImageNet-12k first: no accuracy to compare
    _timm_efficientnet("efficientnet_b6", 528, 528, 0.5),
    _timm_efficientnet("efficientnet_b7", 600, 600, 0.5),
    *(_twin(net, "nfnet") for net in _NFNETS if net.name != "nfnet-f7"),
    *(_twin(net, "bn-resnet") for net in _NF_RESNETS if net.name in ("nf-resnet50", "nf-resnet200")),
    *(_rung(net, "baseline", **_DEFAULT_WIDTH) for net in _NFNETS[:4]),
    *(_rung(net, "width") for net in _NFNETS[:4]),
    *_TINY_NF,
    *(replace(_twin(net, "nfnet"), family="tiny") for net in _TINY_NF),
    # ResNets of the widths and depths of tiny-nf-resnet: bottlenecks, a deep stem, shortcuts by average pooling
    _tiny_bn("tiny-resnet-s", "resnet26d", "bn-resnet", layers=(1,) * 4, channels=(8, 16, 32, 64), stem_width=8),
    _tiny_bn("tiny-resnet", "resnet26d", "bn-resnet", layers=(1,) * 4, channels=(16, 32, 64, 128), stem_width=16),
    _tiny_bn("tiny-resnet-l", "resnet26d", "bn-resnet", layers=(2,) * 4, channels=(32, 64, 96, 160), stem_width=32),
    _tiny_bn("tiny-efficientnet-s", "test_efficientnet", "efficientnet", channel_multiplier=0.45),
    _tiny_bn("tiny-efficientnet", "test_efficientnet", "efficientnet"),
    _tiny_bn("tiny-efficientnet-l", "test_efficientnet", "efficientnet", channel_multiplier=1.25, depth_multiplier=2.0),
)

ALIASES = {"senet-50": "seresnet50", "senet-152": "seresnet152"}
"""Names that the paper's Table 3 uses for nets of the catalogue."""

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(net.family for net in NETS))

_FACTORY = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


def fold(name: str) -> str:
    """A name without case, ``-`` and ``_``, as names are compared."""
    return name.lower().replace("-", "").replace("_", "")


_BY_NAME = {fold(net.name): net for net in NETS}
_BY_NAME |= {fold(alias): _BY_NAME[fold(name)] for alias, name in ALIASES.items()}


def spellings(name: str) -> list[str]:
    """Every folded name of the same net: as given, as in the catalogue, and its aliases."""
    given = fold(name)
    canonical = fold(_BY_NAME[given].name) if given in _BY_NAME else given
    return [given, canonical, *(fold(alias) for alias, of in ALIASES.items() if fold(of) == canonical)]


def find(name: str) -> Net:
    """The net of that name: one of the catalogue, ``timm:NAME`` or ``package.module:factory``.

    Imports neither timm nor the factory; whether those exist shows when the net is built.

    Raises:
        UnknownModel: the catalogue has no such name; the message names the nearest.
    """
    scheme, colon, rest = name.partition(":")
    if colon and scheme.lower() == "timm" and rest:
        return Net(name=f"timm:{rest}", family="timm", config=rest, source="timm")
    if colon and _FACTORY.fullmatch(name):
        return Net(name=name, family="factory", config=name, source="factory")
    if net := _BY_NAME.get(fold(name)):
        return net
    names = list(dict.fromkeys(_BY_NAME[key].name for key in nearest(fold(name[:200]), _BY_NAME, 3)))
    raise UnknownModel(
        f"There is no net called {name!r}.",
        why=f"The nearest: {', '.join(names)}." if names else "No name of the catalogue is near it.",
        try_=(f"{names[0]}, or " if names else "")
        + "`nfbench models` for all names, timm:NAME for one of timm's, package.module:factory for your own",
    )


def lookup(name: str) -> Net | None:
    """The net of that name as `find` reads it; None for a name that it does not know."""
    try:
        return find(name)
    except UnknownModel:
        return None


def normalizer_free(name: str) -> Net | None:
    """The NF net that pairs with the normalized net of that name: what that is a twin of, else nf-NAME."""
    net = _BY_NAME.get(fold(name))
    if net is None or net.norm == "none":
        return None
    return _BY_NAME.get(fold(net.twin_of or f"nf-{net.name}"))


def batch_normalized(name: str) -> Net | None:
    """The batch-normalized net that pairs with the NF net of that name: its twin, else what follows nf-."""
    net = _BY_NAME.get(fold(name))
    pairs = [other for other in NETS if net is not None and normalizer_free(other.name) is net]
    return next((other for other in pairs if other.twin_of), pairs[0] if pairs else None)


def family(name: str) -> tuple[Net, ...]:
    """The nets of one family.

    Raises:
        UnknownModel: there is no such family; the message lists them.
    """
    nets = tuple(net for net in NETS if fold(net.family) == fold(name))
    if not nets:
        raise UnknownModel(
            f"There is no family called {name!r}.",
            why=f"The families are {', '.join(FAMILIES)}.",
            try_=f"nfbench models --family {(nearest(name, FAMILIES, cutoff=0.3) or FAMILIES)[0]}",
        )
    return nets


MACS_FILE = Path(__file__).with_name("macs.csv")


class Counted(NamedTuple):
    """MACs and activations (output elements of convolutions and linear layers) of one image, and parameters."""

    macs: int
    params: int
    activations: int


@cache
def _counts() -> dict[tuple[str, int], Counted]:
    with MACS_FILE.open(encoding="utf-8", newline="") as text:
        return {
            (row["model"], int(row["px"])): Counted(int(row["macs"]), int(row["params"]), int(row["activations"]))
            for row in csv.DictReader(text)
        }


def counted(model: str, px: int | None) -> Counted | None:
    """The counts of a net of the catalogue at its train or test px; None for any other."""
    return _counts().get((model, px)) if px is not None else None


def call_factory(name: str, num_classes: int) -> object:
    """What the factory of that name returns for ``num_classes``.

    Raises:
        UnknownModel: there is no such module or no such callable in it.
        UnsupportedWorkload: the factory raises.
    """
    # what a factory prints is not part of nfbench's own output
    with contextlib.redirect_stdout(sys.stderr), _working_directory_first():
        factory = _factory(name)
        try:
            return factory(num_classes=num_classes)
        except (Exception, SystemExit) as error:
            if of_device(error):
                raise
            raise UnsupportedWorkload(
                f"The factory {name} raised.",
                why=reason(error),
                try_=f"a callable that takes num_classes and returns a torch.nn.Module: {factory_example(name)}",
            ) from error


def factory_example(name: str) -> str:
    """The first line of a factory that would do."""
    return f"def {name.rpartition(':')[2].rpartition('.')[2]}(num_classes): ..."


def _factory(name: str) -> Callable[..., object]:
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        file = module_name.removesuffix(".py")
        remedy = f"python -c 'import {module_name}' for the whole traceback, and mend it"
        if missing:
            remedy = f"{module_name.partition('.')[0]} in the working directory, or its folder on PYTHONPATH"
        raise UnknownModel(
            f"There is no module {module_name!r} to import." if missing else f"The module {module_name!r} raised.",
            why=reason(error),
            try_=f"{file}:{attribute}" if file != module_name else remedy,
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UnknownModel(
                f"The module {module_name!r} has no {attribute!r}.", try_=f"a name that {module_name} defines"
            )
        found = getattr(found, part)
    if not callable(found):
        raise UnknownModel(
            f"{name} is not callable.",
            why=f"It is {type(found).__name__}, a factory takes num_classes and returns a torch.nn.Module.",
            try_=factory_example(name),
        )
    factory: Callable[..., object] = found
    return factory


@contextlib.contextmanager
def _working_directory_first() -> Iterator[None]:
    """Modules of the working directory can be imported, as under ``python -m``; a console script leaves it out."""
    before, here = list(sys.path), str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path[:] = before
