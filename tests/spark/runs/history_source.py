"""Operations of a history on its source: what others do to the documents, their columns and their files."""

from __future__ import annotations

from dataclasses import dataclass

from history_world import World, copied
from pyspark.sql.types import DataType, MapType, StringType, StructType, TimestampNTZType
from replaced_tables import create_again, forget_logs

TEXTS = (
    "document {} of a lake of data",
    "short {}",
    "spam {} to buy and to sell in this lake",
    None,
    "  ",
    "same text",
)


@dataclass(frozen=True)
class Insert:
    count: int
    text: int

    def apply(self, world: World) -> None:
        rows = []
        for _ in range(self.count):
            text = TEXTS[self.text % len(TEXTS)]
            rows.append((str(world.documents), text and text.format(world.documents), world.documents))
            world.documents += 1
        frame = world.spark.createDataFrame(rows, f"id string, {world.text} string, n int")
        if "n" not in world.columns:
            frame = frame.drop("n")
        else:
            frame = frame.withColumn("n", frame["n"].cast(world.rows.schema["n"].dataType))
        frame.coalesce(1).write.format("delta").mode("append").save(str(world.path))


@dataclass(frozen=True)
class Update:
    """Other texts, or another value in every other column, in a third of the rows."""

    third: int
    text: int | None

    def apply(self, world: World) -> None:
        number = world.change()
        if self.text is not None:
            text = TEXTS[self.text]
            value = "NULL" if text is None else f"'{text.format(number)}'"
            values = {world.text: value}
        else:
            fields = [field for field in world.rows.schema if field.name not in ("id", world.text)]
            values = {f"`{field.name}`": _value(field.dataType, number) for field in fields}
        if values:
            world.table.update(f"pmod(crc32(id), 3) = {self.third}", values)


@dataclass(frozen=True)
class Delete:
    third: int

    def apply(self, world: World) -> None:
        world.table.delete(f"pmod(crc32(id), 3) = {self.third}")


@dataclass(frozen=True)
class ChangeIds:
    """By UPDATE: a third of the documents get new ids, or take those of others."""

    third: int
    swap: bool

    def apply(self, world: World) -> None:
        if not self.swap:
            world.table.update(f"pmod(crc32(id), 3) = {self.third}", {"id": f"concat(id, '{world.change()}')"})
            return
        ids = sorted(row["id"] for row in world.rows.select("id").collect())
        if len(ids) > 1:
            pairs = zip(ids, [*ids[1:], ids[0]], strict=True)
            cases = " ".join(f"WHEN '{old}' THEN '{new}'" for old, new in pairs)
            world.table.update(set={"id": f"CASE id {cases} END"})


@dataclass(frozen=True)
class Rewrite:
    """Every row is written anew in one commit, with other values in some, as a load that overwrites does."""

    def apply(self, world: World) -> None:
        number = world.change()
        changed = f"CASE WHEN pmod(crc32(id), 3) = 0 THEN 'text {number} of a new load of data' ELSE {world.text} END"
        rows = world.rows.selectExpr(
            *(f"{changed} AS {name}" if name == world.text else f"`{name}`" for name in world.columns)
        ).localCheckpoint()
        rows.write.format("delta").mode("overwrite").save(str(world.path))


@dataclass(frozen=True)
class AddColumn:
    kind: str
    filled: bool

    def apply(self, world: World) -> None:
        name = f"extra_{world.change()}"
        if self.kind == "TIMESTAMP_NTZ":
            world.alter("SET TBLPROPERTIES (delta.feature.timestampNtz = 'supported')")
        world.alter(f"ADD COLUMN {name} {self.kind}")
        if self.filled:
            kind = world.rows.schema[name].dataType
            world.table.update("pmod(crc32(id), 3) <> 0", {name: _value(kind, world.change())})


@dataclass(frozen=True)
class ChangeColumn:
    """Rename or drop a column, swap two, or drop one and add it again."""

    how: str
    which: int

    def apply(self, world: World) -> None:
        names = [name for name in world.columns if name not in ("id", world.text)]
        if not names:
            return AddColumn("INT", filled=True).apply(world)
        name = names[self.which % len(names)]
        kind = world.rows.schema[name].dataType.simpleString()
        if self.how == "rename":
            world.alter(f"RENAME COLUMN {name} TO {name}_{world.change()}")
        elif self.how == "rename text":
            world.alter(f"RENAME COLUMN {world.text} TO {'content' if world.text == 'body' else 'body'}")
        elif self.how == "drop":
            world.alter(f"DROP COLUMN {name}")
        elif self.how == "drop and add":
            world.alter(f"DROP COLUMN {name}")
            world.alter(f"ADD COLUMN {name} {kind}")
            world.table.update("pmod(crc32(id), 3) = 1", {name: _value(world.rows.schema[name].dataType, 7)})
        elif self.how == "swap":
            other = names[(self.which + 1) % len(names)]
            if other != name:
                world.alter(f"RENAME COLUMN {name} TO swapped")
                world.alter(f"RENAME COLUMN {other} TO {name}")
                world.alter(f"RENAME COLUMN swapped TO {other}")
        elif self.how == "widen":
            if kind == "int":
                world.alter("SET TBLPROPERTIES (delta.enableTypeWidening = true)")
                world.alter(f"ALTER COLUMN {name} TYPE BIGINT")
        elif self.how == "move":
            world.alter(f"ALTER COLUMN {name} FIRST")


@dataclass(frozen=True)
class ChangeField:
    """Add, rename or drop a field of a struct."""

    how: str

    def apply(self, world: World) -> None:
        structs = [field for field in world.rows.schema if isinstance(field.dataType, StructType)]
        if not structs:
            return AddColumn("STRUCT<a: INT, b: STRING>", filled=True).apply(world)
        name, kind = structs[0].name, structs[0].dataType
        fields = kind.names
        if self.how == "add":
            world.alter(f"ADD COLUMN {name}.f{world.change()} STRING")
        elif self.how == "rename":
            world.alter(f"RENAME COLUMN {name}.{fields[-1]} TO f{world.change()}")
        elif len(fields) > 1:
            world.alter(f"DROP COLUMN {name}.{fields[-1]}")


@dataclass(frozen=True)
class Restore:
    back: int

    def apply(self, world: World) -> None:
        version = world.version
        world.table.restoreToVersion(max(version - self.back, world.oldest)).collect()


@dataclass(frozen=True)
class Copy:
    def apply(self, world: World) -> None:
        copied(world.path, world.folder / "copy")
        world.copy = world.folder / "copy", world.oldest


@dataclass(frozen=True)
class PutBack:
    """Replace the source's files by the copy's. What was written since is lost; other writes take its versions."""

    then: int

    def apply(self, world: World) -> None:
        if world.copy is None:
            return Copy().apply(world)
        copied(world.copy[0], world.path)
        world.oldest = world.copy[1]
        forget_logs(world.spark)
        for _ in range(self.then):
            Insert(1, 0).apply(world)


@dataclass(frozen=True)
class CreateAgain:
    """Remove the table, and write another one with most of its rows, with as many versions or with fewer."""

    same_versions: bool

    def apply(self, world: World) -> None:
        versions = world.version
        rows = world.rows.where("pmod(crc32(id), 4) <> 0").localCheckpoint()
        create_again(world.path, rows, empty_commits=versions - 1 if self.same_versions else 0)
        world.oldest = 1


@dataclass(frozen=True)
class Feed:
    """Switch the source's change data feed off or on."""

    enabled: bool

    def apply(self, world: World) -> None:
        world.alter(f"SET TBLPROPERTIES (delta.enableChangeDataFeed = {str(self.enabled).lower()})")


@dataclass(frozen=True)
class CleanUp:
    """Compact and vacuum the source, or clean its log up: earlier versions can't be read any more."""

    log: bool

    def apply(self, world: World) -> None:
        version = world.version
        if self.log:
            jvm = world.spark._jvm
            jvm.org.apache.spark.sql.delta.DeltaLog.forTable(world.spark._jsparkSession, str(world.path)).checkpoint()
            for number in range(version):
                (world.path / "_delta_log" / f"{number:020}.json").unlink(missing_ok=True)
            forget_logs(world.spark)
            world.oldest = version
        else:
            world.table.optimize().executeCompaction()
            world.table.vacuum(0)
            world.oldest = world.version


def _value(kind: DataType, number: int) -> str:
    """Return an SQL literal of the type."""
    if isinstance(kind, StringType):
        return f"'value {number}'"
    if isinstance(kind, MapType):
        return f"map('k', {number}, 'l', 0)"
    if isinstance(kind, StructType):
        fields = ", ".join(f"'{field.name}', {_value(field.dataType, number)}" for field in kind)
        return f"named_struct({fields})"
    literal = f"timestamp_seconds({number})" if isinstance(kind, TimestampNTZType) else str(number)
    return f"CAST({literal} AS {kind.simpleString()})"
