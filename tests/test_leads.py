"""Leads by name: spellings, signs, and limb leads by Einthoven's and Goldberger's formulas."""

import itertools

import numpy as np
import pytest

from bench.data.leads import LEADS, LIMB, choose_leads, name_leads, standard_name
from bench.errors import DataError


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("MLII", ("II", 1)),
        ("DI", ("I", 1)),
        ("d3", ("III", 1)),
        ("avr", ("aVR", 1)),
        ("-aVR", ("aVR", -1)),
        ("\u2212avl", ("aVL", -1)),
        ("C6", ("V6", 1)),
        ("Lead I", ("I", 1)),
        ("MDC_ECG_LEAD_V1", ("V1", 1)),
        ("ECG-I", None),
        ("VR", None),
        ("MCL1", None),
        ("V7", None),
        ("1", None),
        ("", None),
    ],
)
def test_a_spelling_means_one_lead_or_none(name: str, lead: tuple[str, int] | None) -> None:
    assert standard_name(name) == lead


@pytest.mark.parametrize("pair", list(itertools.combinations(LIMB, 2)))
def test_any_two_limb_leads_give_the_other_four(pair: tuple[str, str]) -> None:
    one, two = np.random.default_rng(0).normal(size=(2, 50))
    true = {
        "I": one,
        "II": two,
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }
    choice = choose_leads(pair, tuple(LIMB))

    computed = choice.assemble(np.stack([true[lead] for lead in choice.read]))

    np.testing.assert_allclose(computed, np.stack([true[lead] for lead in LIMB]), atol=1e-12)
    assert set(choice.derived) == set(LIMB) - set(pair)
    assert choice.notes[0][0] == "derived"


def test_an_inverted_lead_changes_its_sign_and_is_noted() -> None:
    choice = choose_leads(("V1", "-avR"), ("aVR", "V1"))
    signals = np.array([[1.0, 2.0], [3.0, 4.0]])

    assert choice.columns == (1, 0)
    assert choice.assemble(signals).tolist() == [[-1.0, -2.0], [3.0, 4.0]]
    assert choice.notes == (("inverted", "inverted leads are turned round: -avR gives aVR"),)


def test_usual_names_in_any_order_and_case_need_no_note() -> None:
    names = tuple(name.lower() for name in reversed(LEADS))

    choice = choose_leads(names, LEADS)

    assert choice.notes == ()
    assert [names[column] for column in choice.columns] == [lead.lower() for lead in LEADS]


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(DataError, match="has no lead V1; it has I, II"):
        choose_leads(("I", "II"), ("V1",))
    with pytest.raises(DataError, match="has no lead III; it has I, V1"):
        choose_leads(("I", "V1"), ("III",))
    with pytest.raises(DataError, match=r"has lead I more than once \(I, DI\)"):
        choose_leads(("I", "DI"), ("I",))


def test_leads_are_named_in_singular_and_plural() -> None:
    assert (name_leads(["I"]), name_leads(["I", "V1"])) == ("lead I", "leads I, V1")
