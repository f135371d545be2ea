"""Scores counted by hand, and a net that is left as it was found."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfbench.learning.evaluate import Scores, evaluate, evaluating, norms
from nfbench.nets.build import awaken, build

NAN, INF = float("nan"), float("inf")


def scores(*batches: tuple[Tensor, Tensor]) -> Scores:
    """The scores of a net that answers with its input."""
    return evaluate(nn.Identity(), batches, "fp32")


def ranked(*places: int, classes: int = 7) -> tuple[Tensor, Tensor]:
    """Outputs in which the label of each image comes at such a place, counted from 0."""
    outputs = torch.arange(classes, 0, -1.0).repeat(len(places), 1)
    return outputs, torch.tensor(places)


def test_top1_and_top5_are_counted_over_all_batches_and_there_is_no_top5_among_five_classes() -> None:
    counted = scores(ranked(0, 1, 4), ranked(5, 6), ranked(0))
    assert (counted.top1, counted.top5, counted.images) == (2 / 6, 4 / 6, 6)
    for classes, top5 in ((2, None), (5, None), (6, 1)):
        few = scores(ranked(0, 1, classes=classes))
        assert (few.top1, few.top5) == (1 / 2, top5)


def test_the_loss_is_the_mean_over_all_images_whatever_the_batches() -> None:
    torch.manual_seed(0)
    outputs, labels = torch.randn(10, 7), torch.randint(7, (10,))
    whole = scores((outputs, labels))
    assert whole.loss == pytest.approx(float(F.cross_entropy(outputs, labels)))
    parts = scores(*zip(outputs.split(4), labels.split(4), strict=True))
    assert parts.loss == pytest.approx(whole.loss) and parts[:2] == whole[:2]


def test_images_that_could_not_be_read_are_left_out() -> None:
    outputs, labels = ranked(0, 0, 3, 6)
    plain = scores((outputs, labels))
    noise, unknown = torch.full((2, 7), NAN), torch.tensor([-1, -1])
    assert scores((torch.cat([noise, outputs]), torch.cat([unknown, labels]))) == plain
    assert scores((noise, unknown), (outputs, labels), (noise, unknown)) == plain
    for batches in ([], [(noise, unknown)]):
        with pytest.raises(ValueError, match="there is no image to evaluate"):
            scores(*batches)


def test_an_output_that_is_not_finite_is_wrong_and_all_such_have_no_finite_loss() -> None:
    for value in (NAN, INF, -INF):
        outputs, labels = ranked(0, 0, 4, 4)
        outputs[1, 6] = outputs[3, 6] = value
        counted = scores((outputs, labels))
        assert (counted.top1, counted.top5) == (1 / 4, 2 / 4)
    diverged = scores((torch.full((4, 10), NAN), torch.arange(4)))
    assert (diverged.top1, diverged.top5, diverged.images) == (0, 0, 4)
    assert math.isnan(diverged.loss)


def test_the_net_runs_in_the_precision_and_without_gradients() -> None:
    class Looking(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            seen.append((y.dtype, y.requires_grad))
            return y

    seen: list[tuple[torch.dtype, bool]] = []
    torch.manual_seed(0)
    net, batch = Looking(7, 7), (torch.randn(16, 7), torch.randint(7, (16,)))
    single, half = evaluate(net, [batch], "fp32"), evaluate(net, [batch], "bf16")
    assert seen == [(torch.float32, False), (torch.bfloat16, False)]
    assert half.loss == pytest.approx(single.loss, rel=1e-2) and half.loss != single.loss


# ---- modes and statistics


def state_of(net: nn.Module) -> tuple[list[tuple[bool, object]], dict[str, Tensor]]:
    modes = [(m.training, getattr(m, "track_running_stats", None)) for m in net.modules()]
    return modes, {name: value.clone() for name, value in net.state_dict().items()}


def same(some: tuple[object, dict[str, Tensor]], others: tuple[object, dict[str, Tensor]]) -> bool:
    return some[0] == others[0] and all(torch.equal(value, others[1][name]) for name, value in some[1].items())


def off_center() -> nn.Sequential:
    """Tells values above 10 from those below by normalizing them; its running statistics say that the middle is 0."""
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[-1.0], [1.0]]))
        net[2].bias.zero_()
    return net


def around_ten() -> tuple[Tensor, Tensor]:
    values = torch.tensor([8.0, 9.0, 11.0, 12.0])
    return values.view(-1, 1, 1, 1), (values > 10).long()


def test_a_batchs_own_statistics_mend_running_ones_that_are_wrong() -> None:
    net = off_center()
    before = state_of(net)
    with evaluating(net):
        assert evaluate(net, [around_ten()], "fp32").top1 == 1 / 2
    with evaluating(net, batch_statistics=True):
        assert evaluate(net, [around_ten()], "fp32").top1 == 1
    assert same(state_of(net), before)


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_modes_and_statistics_are_put_back_even_after_an_exception(batch_statistics: bool) -> None:
    net = nn.Sequential(
        off_center(), nn.Dropout(0.5), off_center().eval(), nn.BatchNorm2d(2, track_running_stats=False)
    )
    net[0][0].train(False)
    before = state_of(net)
    with pytest.raises(RuntimeError, match="while evaluating"), evaluating(net, batch_statistics=batch_statistics):
        assert not net.training and not net[1].training
        net[0](around_ten()[0])
        raise RuntimeError("while evaluating")
    assert same(state_of(net), before)


def spoil(net: nn.Module) -> None:
    for layer in norms(net):
        layer.running_mean.add_(1)  # type: ignore[union-attr]


def scored_both_ways(model: str, change: Callable[[nn.Module], object] = norms, **settings: str) -> list[Scores]:
    """With running and with a batch's own statistics; asserts that the net is left as it was."""
    torch.manual_seed(0)
    net = build(model, num_classes=10, **settings)
    awaken(net)
    change(net)
    before = state_of(net)
    batch = torch.randn(8, 3, 32, 32), torch.arange(8)
    both = []
    for batch_statistics in (False, True):
        with evaluating(net, batch_statistics=batch_statistics):
            both.append(evaluate(net, [batch], "fp32"))
            assert evaluate(net, [batch], "fp32") == both[-1]
        assert same(state_of(net), before)
    return both


@pytest.mark.parametrize("model", ["tiny-resnet-s", "tiny-efficientnet-s"])
def test_batch_normalized_nets_score_otherwise_with_a_batchs_own_statistics(model: str) -> None:
    running, of_batch = scored_both_ways(model)
    spoilt, still_of_batch = scored_both_ways(model, spoil)
    assert running.loss != of_batch.loss
    # and those depend on no running ones
    assert spoilt.loss != running.loss and still_of_batch == of_batch


def test_normalizer_free_nets_and_frozen_statistics_score_the_same_either_way() -> None:
    for model, settings in (("tiny-nfnet-s", {}), ("tiny-resnet-s", {"norm": "frozen"})):
        running, of_batch = scored_both_ways(model, **settings)
        assert of_batch == running
    assert norms(build("tiny-nfnet-s")) == []
