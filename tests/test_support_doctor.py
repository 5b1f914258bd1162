"""The support doctor, against calculation by hand."""

import numpy as np
import pytest

from valuelearn import support_doctor, supports
from valuelearn.support_doctor import Support

BREAKOUT = Support(-10.0, 10.0, 51, 0.99, sigma_ratio=0.75)


def test_breakout_by_hand():
    """Rewards of -1 to 1 at 0.99 make returns of -100 to 100.

    Four sigma on each side are 6 of the 51 bins: 200 / 45 = 4.444 wide, 13.33 free, 113.33
    rounded outwards to three digits. The advice is the same for any n-step.
    """
    fit = support_doctor.fitting(BREAKOUT, -1.0, 1.0)
    assert (fit.v_min, fit.v_max) == (-114.0, 114.0)
    one, three = (support_doctor.prescription(BREAKOUT, -1.0, 1.0, n_step) for n_step in (1, 3))
    for text in (one, three):
        assert text.startswith("agent.head_options.v_min=-114 agent.head_options.v_max=114\n")
        assert "No return leaves [-100, 100]" in text
        assert "The 51 bins are 4.47 apart." in text and "14 is left free on each side" in text
    assert "1 + 0.99 x 100 = 100." in one
    assert "2.97 + 0.9703 x 100 = 100." in three  # 1 + 0.99 + 0.9801, and 0.99 cubed.


def test_cartpole_by_hand():
    """Returns to 500 are discounted: 1 / (1 - 0.99) = 100, without room to spare for two-hot."""
    support = Support(-10.0, 10.0, 51, 0.99)
    fit = support_doctor.fitting(support, 1.0, 1.0)
    assert (fit.v_min, fit.v_max) == (0.0, 100.0)
    text = support_doctor.prescription(support, 1.0, 1.0, 1)
    assert "left free" not in text and "The 51 bins are 2 apart." in text


def test_bins_of_a_transform_have_no_width_in_common():
    support = BREAKOUT._replace(transform="symlog")
    fit = support_doctor.fitting(support, -1.0, 1.0)
    text = support_doctor.prescription(support, -1.0, 1.0, 1)
    assert f"{fit.v_max - 100:.3g} is left free on each side" in text and "apart. " not in text


@pytest.mark.parametrize("reward", [1e-3, 0.37, 1.0, 12.0, 9999.0])
@pytest.mark.parametrize("transform", ["identity", "symlog", "signed_hyperbolic"])
def test_the_advice_holds_every_return(reward, transform):
    support = Support(-1.0, 1.0, 51, 0.9, 0.75, transform)
    fit = support_doctor.fitting(support, -2 * reward, reward)
    assert fit.v_min < -20 * reward and fit.v_max > 10 * reward
    # Four sigma are three bins at each end; the 45 others hold the returns. Ends are rounded to three digits.
    forward, inverse = supports.transform(transform)
    low, high = (float(forward(np.float64(x), np)) for x in (-20 * reward, 10 * reward))
    room = 3 * (high - low) / 45
    wanted = np.array([-inverse(np.float64(low - room), np), inverse(np.float64(high + room), np)])
    found = np.array([-fit.v_min, fit.v_max])
    assert (wanted * (1 - 1e-9) <= found).all() and (found <= 1.01 * wanted).all()


@pytest.mark.parametrize(
    ("support", "rewards", "sentence"),
    [
        (BREAKOUT._replace(gamma=1.0), (-1.0, 1.0), "gamma is 1.0; a number from 0 to below 1 is wanted"),
        (BREAKOUT, (1.0, -1.0), "the rewards are 1 to -1; a range with a reward is wanted"),
        (BREAKOUT, (0.0, 0.0), "the rewards are 0 to 0"),
        (BREAKOUT._replace(num_bins=4), (0.0, 1.0), "num_bins is 4; more than 6 are wanted"),
    ],
)
def test_what_has_no_answer(support, rewards, sentence):
    with pytest.raises(ValueError, match=sentence):
        support_doctor.fitting(support, *rewards)


def test_the_warning_where_no_ends_would_do():
    """Four sigma of two bins each, on both sides, are sixteen bins."""
    support = BREAKOUT._replace(num_bins=11, sigma_ratio=2.0)
    found = support_doctor.diagnosis(support, {"clipped_above": 0.25}, 0.0, 1.0)
    assert found == (
        "25.0% of the target mass is lost above agent.head_options.v_max = 10; no ends would hold every "
        "return, as all 11 bins are within 4 sigma of one: give agent.head_options.num_bins more than 16"
    )
    assert "would hold every return" in support_doctor.diagnosis(
        support._replace(num_bins=17), {"clipped_above": 0.25}, 0.0, 1.0
    )


def test_the_warning():
    assert support_doctor.diagnosis(BREAKOUT, {}, 0.0, 1.0) is None
    assert (
        support_doctor.diagnosis(BREAKOUT, {"clipped_below": 0.0, "clipped_above": 0.0099}, 0.0, 1.0) is None
    )
    found = support_doctor.diagnosis(BREAKOUT, {"clipped_below": 0.0, "clipped_above": 0.25}, 0.0, 1.0)
    # Returns of 0 to 100; 100 / 45 = 2.22 wide, 6.67 free on each side.
    assert found == (
        "25.0% of the target mass is lost above agent.head_options.v_max = 10; with rewards from 0 to 1, "
        "v_min=-6.67 and v_max=107 would hold every return"
    )
    for support in (BREAKOUT._replace(gamma=1.0), BREAKOUT._replace(of_returns=False)):
        found = support_doctor.diagnosis(support, {"clipped_below": 0.0, "clipped_above": 0.25}, 0.0, 1.0)
        assert found.endswith("rewards alone do not bound what is learnt here: widen it")
    below = support_doctor.diagnosis(BREAKOUT, {"clipped_below": 0.02, "clipped_above": 0.01}, 0.0, 0.0)
    lost = "2.0% of the target mass is lost below agent.head_options.v_min = -10"
    assert below == f"{lost}, though no reward has been seen yet"
