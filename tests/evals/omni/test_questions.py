"""The eval of what is seen and heard: what counts as right, and that nothing of training is asked."""

from antiphon.data.omni.names import COLOURS, SHAPES
from antiphon.data.omni.pictures import ask
from antiphon.data.omni.questions import wordings
from antiphon.evals.omni.questions import OmniEvalConfig, OmniEvaluation, asked, is_right


def test_a_reply_is_right_if_it_says_all_of_it_and_nothing_else():
    wanted = ask("what-at", "a red circle", ("red", "circle"), (*COLOURS, *SHAPES))
    assert is_right("A red circle.", wanted)
    assert is_right("I think it is a circle. It is red!", wanted)
    assert not is_right("A circle.", wanted)
    assert not is_right("A red or blue circle.", wanted)
    assert not is_right("", wanted)


def test_items_and_wordings_are_those_of_the_test_split():
    evaluation = OmniEvaluation(OmniEvalConfig())
    rows = list(asked(evaluation, "picture", 40))
    assert len({question for _, _, question in rows}) > 10
    stems = {each.split("{")[0] for some in wordings("test").values() for each in some}
    assert all(any(question.startswith(stem) for stem in stems) for _, _, question in rows)
    again = list(asked(evaluation, "picture", 40))
    assert [question for _, _, question in rows] == [question for _, _, question in again]
