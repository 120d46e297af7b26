//! Values of every kind of type come back as they were, to the byte.

use crate::postgres_server::Version;
use crate::shop::Shop;

const TYPES: &str = "
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN short AS varchar(8) CHECK (value <> 'x');
CREATE TABLE everything (
    \"Key One\" uuid, k2 text, k3 numeric(20,5), k4 timestamptz, k5 date, k6 bytea,
    a smallint, b real, c double precision, d boolean, e char(5), f json, g jsonb, h numeric, i interval, j inet,
    k bit(5), l int[], m text[], n int4range, o tsvector, p point, q mood, r short, s time, t timetz, u xml, v money,
    w macaddr, x timestamp, y date, z numeric(38,10), aa oid, bb \"char\", cc varchar(3)[], dd int8multirange,
    ee text COLLATE \"C\", ff bytea,
    gg int GENERATED ALWAYS AS (a + 1) STORED,
    PRIMARY KEY (k3, k2, \"Key One\", k4, k5, k6)
);
INSERT INTO everything
SELECT md5(n::text)::uuid, CASE n % 3 WHEN 0 THEN 'Ä' WHEN 1 THEN 'z' ELSE '' END || n, n * 1.00001 - 3,
       '2026-01-01Z'::timestamptz - n * interval '1000 days 1 microsecond', '0044-03-15 BC'::date + n, decode(lpad(to_hex(n + 255), 4, '0'), 'hex'),
       n, n / 3.0, CASE n WHEN 1 THEN 'NaN'::float8 WHEN 2 THEN '-0' WHEN 3 THEN 'Infinity' ELSE sqrt(n) END, n % 2 = 0, 'ab', '{\"a\":  1}',
       '{\"a\": 1.00, \"b\": [null]}', CASE n WHEN 5 THEN 'NaN'::numeric ELSE n + 0.100 END, n * interval '1 month 1 day 1 second',
       ('10.0.0.' || n)::inet, n::int::bit(5), ARRAY[n, NULL, 3], ARRAY['a', NULL, 'b,\"c'], int4range(n, n + 5), to_tsvector('simple', 'a b ' || n),
       point(n, -n), CASE WHEN n % 2 = 0 THEN 'sad' ELSE 'ok' END::mood, 's' || n, '12:34:56.789', '12:34:56+03', '<a/>', n::int::money,
       '08:00:2b:01:02:03', CASE n WHEN 7 THEN 'infinity' WHEN 8 THEN '-infinity' ELSE '1969-12-31 23:59:59.999999' END::timestamp,
       CASE n WHEN 7 THEN 'infinity' ELSE '2000-02-29' END::date, -1234567890123456789012345678.0123456789, n, 'x', ARRAY['abc'],
       '{[1,3), [7,9)}', 'c' || n, NULL
FROM generate_series(0, 40) n;
INSERT INTO everything (\"Key One\", k2, k3, k4, k5, k6) VALUES (md5('')::uuid, '', 0, 'infinity', '-infinity', '')";

const ALL: &str = "SELECT * FROM everything ORDER BY k3, k2";

#[test]
fn rows_of_all_types_come_back_to_the_byte() {
    come_back(&Shop::empty(), TYPES);
}

#[test]
fn rows_of_all_types_come_back_on_18_too() {
    // This server is built without xml.
    let types = TYPES.replace("u xml", "u text");
    come_back(&Shop::empty_on(Version::V18), &types);
}

fn come_back(shop: &Shop, types: &str) {
    shop.sql(types);
    shop.ok(&[
        "collection",
        "create",
        "shop",
        "--table",
        "public.everything",
    ]);
    shop.ok(&["backup", "shop", "--label", "monday"]);
    let before = shop.copy(ALL);
    shop.ok(&[
        "restore",
        "shop",
        "--rename",
        "public.everything=public.beside",
    ]);
    assert_eq!(shop.copy(&ALL.replace("everything", "beside")), before);
    let typed = |table: &str| {
        shop.copy(&format!(
            "SELECT attname, format_type(atttypid, atttypmod), attgenerated, attnotnull FROM pg_attribute
             WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
        ))
    };
    assert_eq!(typed("everything"), typed("beside"));
    shop.sql(
        "UPDATE everything SET g = '{}', h = h + 0.0, c = 0, l = NULL WHERE a % 2 = 0; DELETE FROM everything WHERE a % 5 = 0;
         UPDATE everything SET k2 = 'moved' || k2 WHERE a = 3",
    );
    let damaged = shop.copy(ALL);
    let mend = shop.mend(&[]);
    assert_eq!(shop.copy(ALL), before);
    shop.ok(&["verify", "monday", "--live"]);
    shop.ok(&["undo", &mend]);
    assert_eq!(shop.copy(ALL), damaged);
}

#[test]
fn a_number_that_only_the_server_has_is_refused_with_its_column() {
    let shop = Shop::empty();
    shop.sql(
        "CREATE TABLE t (id int PRIMARY KEY, price numeric(10,2)); INSERT INTO t VALUES (1, 'NaN')",
    );
    shop.ok(&["collection", "create", "shop", "--table", "public.t"]);
    let refused = shop.fails(1, &["backup", "shop"]);
    assert!(refused.contains("column price NaN"), "{refused}");
}

#[test]
fn a_table_of_many_ranges_and_one_in_the_order_of_a_language_are_mended() {
    let shop = Shop::empty();
    shop.sql(
        "CREATE TABLE wide (id bigint PRIMARY KEY, filler text);
         ALTER TABLE wide ALTER filler SET STORAGE EXTERNAL;
         INSERT INTO wide SELECT n * 3, repeat(md5(n::text), 60) FROM generate_series(1, 45000) n;
         CREATE TABLE words (word text PRIMARY KEY, n int);
         INSERT INTO words SELECT CASE n % 4 WHEN 0 THEN 'Zo' WHEN 1 THEN 'ä' WHEN 2 THEN '_' ELSE 'b' END || n, n
             FROM generate_series(1, 5000) n; ANALYZE",
    );
    shop.ok(&[
        "collection",
        "create",
        "shop",
        "--table",
        "public.wide",
        "--table",
        "public.words",
    ]);
    shop.ok(&["backup", "shop"]);
    let state = "SELECT (SELECT sum(hashtextextended(w::text, 0)) FROM wide w), (SELECT sum(hashtextextended(w::text, 0)) FROM words w)";
    let before = shop.copy(state);
    shop.sql(
        "UPDATE wide SET filler = 'gone' WHERE id BETWEEN 60000 AND 60300; DELETE FROM wide WHERE id > 134000;
         INSERT INTO wide VALUES (1, 'new'), (90001, 'new'); UPDATE words SET n = -n WHERE n % 9 = 0",
    );
    let report = shop.json(&["restore", "shop", "--in-place"]);
    let ranges = report["tables"][0]["ranges"].as_u64().unwrap();
    assert!(ranges > 1, "{report}");
    assert_eq!(shop.copy(state), before);
    shop.ok(&["verify", "shop"]);
}
