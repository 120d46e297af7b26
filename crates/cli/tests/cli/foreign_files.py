"""Writes one table in every way that its writers know: python files.py DIRECTORY"""

import datetime as dt
import decimal
import os
import sys

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

os.chdir(sys.argv[1])

SCHEMA = pa.schema([
    ("id", pa.int64()),
    ("name", pa.string()),
    ("price", pa.float64()),
    ("ok", pa.bool_()),
    ("day", pa.date32()),
    ("at", pa.timestamp("us")),
    ("big", pa.uint64()),
    ("money", pa.decimal128(10, 2)),
])  # fmt: skip
ROWS = [
    (1, "plain", 1.5, True, dt.date(2020, 2, 29), dt.datetime(2020, 2, 29, 23, 59, 59, 999999), 2**64 - 1, "12.34"),
    (2, 'a, "b"\nc; d', -0.25, False, dt.date(1970, 1, 1), dt.datetime(1999, 12, 31, 1, 2, 3), 0, "-0.01"),
    (3, "Ünïcode ✓", 1e300, None, dt.date(2038, 1, 20), dt.datetime(2038, 1, 20), 9007199254740993, "99999999.99"),
    (4, None, None, None, None, None, None, None),
]  # fmt: skip

columns = list(zip(*ROWS))
columns[7] = [None if m is None else decimal.Decimal(m) for m in columns[7]]
arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA)]
table = pa.table(arrays, schema=SCHEMA)
frame = table.to_pandas(types_mapper=pd.ArrowDtype)
polar = pl.from_arrow(table)
duck = duckdb.connect()
duck.register("t", table)

for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]:
    for dictionary in [True, False]:
        for page in ["1.0", "2.0"]:
            pq.write_table(
                table, f"pyarrow-{codec}-{dictionary}-{page}.parquet",
                compression=codec, use_dictionary=dictionary, data_page_version=page,
            )  # fmt: skip
pq.write_table(table, "pyarrow-int96.parquet", use_deprecated_int96_timestamps=True)
pq.write_table(table, "pyarrow-groups.parquet", row_group_size=1)
pq.write_table(table, "pyarrow-milliseconds-1.0.parquet", version="1.0", coerce_timestamps="us")
for codec in ["snappy", "gzip", "brotli", "lz4", "zstd", None]:
    frame.to_parquet(f"pandas-{codec}.parquet", compression=codec, index=False)
for codec in ["uncompressed", "snappy", "gzip", "brotli", "lz4", "zstd"]:
    polar.write_parquet(f"polars-{codec}.parquet", compression=codec)
for codec in ["uncompressed", "snappy", "gzip", "brotli", "lz4", "lz4_raw", "zstd"]:
    duck.execute(f"COPY t TO 'duckdb-{codec}.parquet' (FORMAT parquet, COMPRESSION {codec})")

frame.to_csv("pandas.csv", index=False)
frame.to_csv("pandas-excel.csv", index=False, sep=";", encoding="utf-8-sig", lineterminator="\r\n")
frame.to_csv("pandas-utf16.csv", index=False, encoding="utf-16")
frame.to_csv("pandas-tabs.csv", index=False, sep="\t")
polar.write_csv("polars.csv")
polar.write_csv("polars-excel.csv", include_bom=True, separator=";", line_terminator="\r\n")
polar.write_csv("polars-quoted.csv", quote_style="non_numeric")
duck.execute("COPY t TO 'duckdb.csv' (HEADER)")
duck.execute("COPY t TO 'duckdb-pipes.csv' (HEADER, DELIMITER '|')")

polar.write_ndjson("polars.jsonl")
duck.execute("COPY t TO 'duckdb.jsonl' (FORMAT json)")
duck.execute("COPY t TO 'duckdb-array.json' (FORMAT json, ARRAY true)")
