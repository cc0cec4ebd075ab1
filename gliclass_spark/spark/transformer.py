# ruff: noqa: N802, N803, N815 - the spelling of Spark ML
"""Spark ML: a transformer that classifies a text column, for pyspark.ml's pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyspark import keyword_only
from pyspark.ml import Transformer
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable, DefaultParamsWriter, MLWriter
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, DataType, StringType, StructField, StructType

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import GliclassSparkError
from gliclass_spark.labels import LabelSet, Tree
from gliclass_spark.spark import udf_arguments as arguments
from gliclass_spark.spark.delta.column_names import column
from gliclass_spark.spark.udf import gliclass_udf


def _converter(check: Callable[[Any], object], types: type | tuple[type, ...]) -> Callable[[Any], Any]:
    """Return a converter, as pyspark.ml has them, that raises ValueError, or TypeError for a value of other types."""

    def convert(value: Any) -> Any:
        try:
            check(value)
        except GliclassSparkError as error:
            raise (ValueError if isinstance(value, types) else TypeError)(str(error)) from None
        # NumPy's numbers become Python's, which JSON can hold.
        return value.item() if hasattr(value, "item") else value

    return convert


def _labels(value: Any) -> list[str] | str:
    """Return names as a list, and other labels as the JSON of their set: what Spark can save. Raises as _converter."""
    if isinstance(value, str) and value.startswith("{"):
        value = LabelSet.from_json(value)
    try:
        label_set = LabelSet.coerce(value)
    except GliclassSparkError as error:
        raise (ValueError if isinstance(value, (list, tuple, Mapping)) else TypeError)(str(error)) from None
    names = list(label_set.names)
    return names if label_set == LabelSet.of(*names) else label_set.canonical_json


def _field(schema: StructType, param: str, name: str, data_type: DataType, described: str) -> StructField:
    """Return the column that a parameter names, in any case. Raises ValueError if there is none, or of another type."""
    fields = [field for field in schema if field.name == name]
    fields = fields or [field for field in schema if field.name.lower() == name.lower()]
    if not fields:
        columns = ", ".join(schema.names)
        raise ValueError(f"{param} {name!r} is not among the columns {columns}; call {_setter(param)} with one of them")
    if fields[0].dataType.simpleString() != data_type.simpleString():
        actual = fields[0].dataType.simpleString()
        raise ValueError(f"{param} {name!r} must be {described}, found {actual}; cast it, or call {_setter(param)}")
    return fields[0]


def _setter(param: str) -> str:
    return f"set{param[0].upper()}{param[1:]}"


class GLiClassTransformer(
    Transformer, HasInputCol, HasOutputCol, DefaultParamsReadable["GLiClassTransformer"], DefaultParamsWritable
):
    """A stage that adds a column with the labels of a text column.

        tagger = GLiClassTransformer(inputCol="body", outputCol="topics", labels=["science", "sports"])
        tagger.transform(documents)

    It learns nothing, so a `Pipeline` takes it as it is. Its parameters are those of `gliclass_udf`, in the spelling of
    Spark ML; `labelsCol` names its second column, with the labels of each row. `save` also writes the digest of the
    model's files: a loaded transformer gives the same scores, or raises CheckpointError where its model can no longer
    be found. A wrong value raises TypeError or ValueError when it is set, and a DataFrame without the column ValueError
    in `transform`.
    """

    labels: Param[list[str] | str] = Param(
        Params._dummy(),
        "labels",
        "the labels of every text: a list of names, a tree, or a LabelSet",
        typeConverter=_labels,
    )
    labelsCol: Param[str] = Param(
        Params._dummy(),
        "labelsCol",
        "a column of array<string> with each text's own labels, in place of labels",
        typeConverter=TypeConverters.toString,
    )
    model: Param[str] = Param(
        Params._dummy(),
        "model",
        'a model URI: "embedded", a folder, a hub id, an object store\'s folder, or models:/NAME@ALIAS',
        typeConverter=_converter(arguments.check_model, str),
    )
    modelDigest: Param[str] = Param(
        Params._dummy(),
        "modelDigest",
        "the SHA-256 of the model's files, which `save` writes; other files are refused",
        typeConverter=_converter(arguments.check_digest, str),
    )
    output: Param[arguments.Output] = Param(
        Params._dummy(),
        "output",
        f"what the column holds: one of {', '.join(arguments.OUTPUT_TYPES)}",
        typeConverter=_converter(arguments.check_output, str),
    )
    threshold: Param[float] = Param(
        Params._dummy(),
        "threshold",
        "the score, in [0, 1], from which a label is assigned, in place of the label set's",
        typeConverter=_converter(arguments.check_threshold, (int, float)),
    )
    multiLabel: Param[bool] = Param(
        Params._dummy(),
        "multiLabel",
        "whether labels are independent (True) or exclude each other (False), in place of the label set's",
        typeConverter=_converter(lambda value: arguments.check_multi_label(value, "multiLabel"), bool),
    )
    topK: Param[int] = Param(
        Params._dummy(),
        "topK",
        "at most this many labels per text (>= 1), in place of the label set's",
        typeConverter=_converter(lambda value: arguments.check_top_k(value, "topK"), int),
    )
    device: Param[str] = Param(
        Params._dummy(),
        "device",
        '"cpu", "cuda", "cuda:1", ...; without it the GPU that Spark assigned, any other, or the processor',
        typeConverter=_converter(arguments.check_device, str),
    )
    precision: Param[str] = Param(
        Params._dummy(),
        "precision",
        f"of the model's computation: one of {', '.join(arguments.PRECISIONS)}",
        typeConverter=_converter(arguments.check_precision, str),
    )

    _input_kwargs: dict[str, Any]  # of keyword_only: what the caller gave

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        labels: LabelSet | Sequence[str] | Tree | None = None,
        labelsCol: str | None = None,
        model: str | None = None,
        output: arguments.Output | None = None,
        threshold: float | None = None,
        multiLabel: bool | None = None,
        topK: int | None = None,
        device: str | None = None,
        precision: str | None = None,
    ) -> None:
        """Set the parameters; the defaults are text, labels (the column), embedded, labels (the output) and auto."""
        super().__init__()
        self._setDefault(inputCol="text", outputCol="labels", model="embedded", output="labels", precision="auto")
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        labels: LabelSet | Sequence[str] | Tree | None = None,
        labelsCol: str | None = None,
        model: str | None = None,
        output: arguments.Output | None = None,
        threshold: float | None = None,
        multiLabel: bool | None = None,
        topK: int | None = None,
        device: str | None = None,
        precision: str | None = None,
    ) -> GLiClassTransformer:
        """Set the given parameters, and keep the others."""
        return self._set(**self._input_kwargs)

    def transformSchema(self, schema: StructType) -> StructType:
        """Return the schema of the output for this one of an input. Raises ValueError if it does not fit."""
        self._input_field(schema)
        self._labels_field(schema)
        if self.getOutputCol().lower() in {field.name.lower() for field in schema}:
            raise ValueError(f"outputCol {self.getOutputCol()!r} exists already; call setOutputCol with another name")
        return StructType([*schema, StructField(self.getOutputCol(), arguments.OUTPUT_TYPES[self.getOutput()])])

    def _transform(self, dataset: DataFrame) -> DataFrame:
        schema = dataset.schema
        self.transformSchema(schema)
        labels, labels_field = self.getLabels(), self._labels_field(schema)
        if labels is None and labels_field is None:
            raise ValueError(
                "labels are not set; call setLabels(['spam', 'ham']) with labels of yours, or setLabelsCol"
            )
        classify = gliclass_udf(
            labels,
            threshold=self.getThreshold(),
            multi_label=self.getMultiLabel(),
            top_k=self.getTopK(),
            model=self._resolved(),
            output=self.getOutput(),
            device=self.getDevice(),
            precision=self.getPrecision(),
        )
        columns = [column(field.name) for field in (self._input_field(schema), labels_field) if field is not None]
        return dataset.withColumn(self.getOutputCol(), classify(*columns))

    def write(self) -> MLWriter:
        """Return Spark's writer, which also saves the digest of the model's files, and at a hub their revision."""
        ref = self._resolved()
        return DefaultParamsWriter(self.copy()._set(model=ref.pinned or ref.uri, modelDigest=ref.digest))

    def copy(self, extra: Mapping[Param[Any], Any] | None = None) -> GLiClassTransformer:
        """Return a copy with these parameters. Another model has another digest."""
        copy: GLiClassTransformer = super().copy(dict(extra or {}))
        if self.model in (extra or {}) and self.modelDigest not in (extra or {}):
            copy.clear(copy.modelDigest)
        return copy

    def _set(self, **values: Any) -> GLiClassTransformer:
        values = {name: value for name, value in values.items() if value is not None}
        if "model" in values:
            self.clear(self.modelDigest)
        return super()._set(**values)

    def _resolved(self) -> ModelRef:
        return resolve_model(self.getModel(), self._value(self.modelDigest))

    def _input_field(self, schema: StructType) -> StructField:
        return _field(schema, "inputCol", self.getInputCol(), StringType(), "a string")

    def _labels_field(self, schema: StructType) -> StructField | None:
        name = self.getLabelsCol()
        if name is None:
            return None
        if self.getLabels() is not None:
            raise ValueError("labels and labelsCol are both set; leave one out: clear(tagger.labels)")
        return _field(schema, "labelsCol", name, ArrayType(StringType()), "an array of strings")

    def _value(self, param: Param[Any]) -> Any:
        return self.getOrDefault(param) if self.isDefined(param) else None

    def setInputCol(self, value: str) -> GLiClassTransformer:
        """Set the column of the texts."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> GLiClassTransformer:
        """Set the name of the new column."""
        return self._set(outputCol=value)

    def setLabels(self, value: LabelSet | Sequence[str] | Tree) -> GLiClassTransformer:
        """Set the labels: names, a tree, or a LabelSet."""
        return self._set(labels=value)

    def getLabels(self) -> LabelSet | list[str] | None:
        """Return the names as a list, other labels as a LabelSet, or None if they are not set."""
        labels = self._value(self.labels)
        return LabelSet.from_json(labels) if isinstance(labels, str) else labels

    def setLabelsCol(self, value: str) -> GLiClassTransformer:
        """Set the column with each text's own labels, in place of `labels`."""
        return self._set(labelsCol=value)

    def getLabelsCol(self) -> str | None:
        """Return the column with each text's own labels; None: `labels` holds for all."""
        name: str | None = self._value(self.labelsCol)
        return name

    def setModel(self, value: str) -> GLiClassTransformer:
        """Set the model's URI. Its files may be any."""
        return self._set(model=value)

    def getModel(self) -> str:
        """Return the model's URI."""
        return str(self.getOrDefault(self.model))

    def getModelDigest(self) -> str | None:
        """Return the digest that the model's files must have; None before the transformer was saved and loaded."""
        digest: str | None = self._value(self.modelDigest)
        return digest

    def setOutput(self, value: arguments.Output) -> GLiClassTransformer:
        """Set what the column holds, see `gliclass_udf`."""
        return self._set(output=value)

    def getOutput(self) -> arguments.Output:
        """Return what the column holds."""
        return self.getOrDefault(self.output)

    def setThreshold(self, value: float) -> GLiClassTransformer:
        """Set the score from which a label is assigned."""
        return self._set(threshold=value)

    def getThreshold(self) -> float | None:
        """Return the threshold; None: the label set's."""
        threshold: float | None = self._value(self.threshold)
        return threshold

    def setMultiLabel(self, value: bool) -> GLiClassTransformer:
        """Set whether labels are independent of each other."""
        return self._set(multiLabel=value)

    def getMultiLabel(self) -> bool | None:
        """Return whether labels are independent of each other; None: as the label set says."""
        multi_label: bool | None = self._value(self.multiLabel)
        return multi_label

    def setTopK(self, value: int) -> GLiClassTransformer:
        """Set how many labels a text has at most."""
        return self._set(topK=value)

    def getTopK(self) -> int | None:
        """Return how many labels a text has at most; None: as the label set says."""
        top_k: int | None = self._value(self.topK)
        return top_k

    def setDevice(self, value: str) -> GLiClassTransformer:
        """Set the device of the workers."""
        return self._set(device=value)

    def getDevice(self) -> str | None:
        """Return the device of the workers; None: the GPU that Spark assigned, any other, or the processor."""
        device: str | None = self._value(self.device)
        return device

    def setPrecision(self, value: str) -> GLiClassTransformer:
        """Set the precision of the model's computation."""
        return self._set(precision=value)

    def getPrecision(self) -> Any:
        """Return the precision of the model's computation."""
        return self.getOrDefault(self.precision)
