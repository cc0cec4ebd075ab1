"""The layout that a pipeline's file asks for, compared with the columns of its tables before any work."""

from __future__ import annotations

import pytest
from pyspark.sql.types import (
    BooleanType,
    DateType,
    DecimalType,
    IntegerType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
)

from gliclass_spark.config.output import Output
from gliclass_spark.errors import TableError
from gliclass_spark.spark.delta.table_layout import check_columns

TYPES = {"text": StringType(), "day": DateType(), "at": TimestampNTZType(), "price": DecimalType(10, 2)}
WIDE = StructType([StructField(f"c{number}", IntegerType()) for number in range(30)])
SCHEMA = StructType(
    [
        *(StructField(name, kind) for name, kind in TYPES.items()),
        StructField("flag", BooleanType()),
        StructField("attributes", MapType(StringType(), StringType())),
        StructField("wide", WIDE),
        StructField("last", StringType()),
    ]
)


@pytest.mark.parametrize("key", ["partition_by", "cluster_by"])
def test_columns_of_text_numbers_and_times_may_lay_out_a_table(key: str) -> None:
    check_columns(SCHEMA, Output.model_validate({key: list(TYPES)}), "lake/mail")
    check_columns(SCHEMA, Output(partition_by=("flag", "last")), "lake/mail")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            {"partition_by": ["Text"]},
            "output.partition_by names 'Text', which is no column of the tables; they have text",
        ),
        ({"partition_by": ["attributes"]}, "output.partition_by names 'attributes', which is map<string,string>; name"),
        (
            {"cluster_by": ["flag"]},
            "output.cluster_by names 'flag', which is boolean; name a column of text, numbers or",
        ),
        ({"cluster_by": ["last"]}, "output.cluster_by names 'last', which is behind the 32 columns of which Delta has"),
    ],
)
def test_any_other_column_is_refused(output: dict[str, list[str]], message: str) -> None:
    with pytest.raises(TableError) as refused:
        check_columns(SCHEMA, Output.model_validate(output), "lake/mail")
    assert str(refused.value).startswith(f"lake/mail: {message}")


def test_a_late_column_may_cluster_a_table_whose_statistics_are_set() -> None:
    properties = {"delta.dataSkippingStatsColumns": "last"}
    check_columns(SCHEMA, Output(cluster_by=("last",), properties=properties), "lake/mail")
