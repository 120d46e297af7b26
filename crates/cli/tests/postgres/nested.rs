//! Arrays, composites and ranges of types that users made: their numbers differ between databases, their values do not.

use crate::postgres_server::Version;
use crate::shop::Shop;

const TYPES: &str = "
CREATE SCHEMA \"Odd Types\";
CREATE TYPE mood AS ENUM ('sad', 'ok', 'so \"so\"');
CREATE DOMAIN short AS varchar(8) CHECK (value <> 'x');
CREATE TYPE \"Odd Types\".\"A,b\" AS (street text, zip numeric(5,0), moods mood[]);
CREATE TYPE person AS (name short, home \"Odd Types\".\"A,b\", others \"Odd Types\".\"A,b\"[], born date);
CREATE DOMAIN adult AS person CHECK ((value).name IS DISTINCT FROM 'nobody');
CREATE DOMAIN moods AS mood[];
CREATE TYPE lengths AS RANGE (subtype = float8);
CREATE TYPE feelings AS RANGE (subtype = mood);
CREATE TABLE parent (a int, b mood);
";

const TABLE: &str = "
CREATE TABLE nested (
    id int PRIMARY KEY, a mood[], b short[], c person, d person[], e adult, f adult[], g moods, h lengths, i feelings,
    j feelings[], k lengths[], l parent, m parent[], n moods[], o int[], p feelings_multirange,
    q text GENERATED ALWAYS AS ((c).name) STORED
);
INSERT INTO nested
SELECT n, CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN '{}' WHEN 2 THEN '{sad,NULL,ok}' ELSE '[2:3][0:1]={{sad,ok},{ok,\"so \\\"so\\\"\"}}' END::mood[],
       ARRAY['s' || n, NULL]::short[],
       CASE WHEN n % 5 > 0 THEN ROW('p' || n, ROW('street ' || n, n, '{ok,sad}'), ARRAY[ROW('', NULL, NULL), NULL, ROW(NULL, 1, '{}')]::\"Odd Types\".\"A,b\"[],
           CASE WHEN n % 2 = 0 THEN '1990-02-28'::date + n END)::person END,
       ARRAY[ROW('d', NULL, NULL, NULL), ROW(NULL, ROW('x', 2, ARRAY['ok']::mood[]), NULL, 'infinity')]::person[],
       ROW('e' || n, NULL, NULL, '2000-01-01')::person, ARRAY[ROW('f', NULL, NULL, '1999-12-31')::person]::adult[], '{ok}',
       lengths(n / 3.0, n, '[]'), CASE n % 3 WHEN 0 THEN 'empty' WHEN 1 THEN '[sad,ok)' ELSE '(,ok]' END::feelings,
       ARRAY['[sad,sad]', NULL]::feelings[], ARRAY[lengths(NULL, n)], ROW(n, 'ok')::parent, ARRAY[ROW(n, NULL)]::parent[],
       ARRAY['{sad}']::moods[], ARRAY[n], '{[sad,ok)}'
FROM generate_series(1, 60) n";

const ALL: &str = "SELECT * FROM nested ORDER BY id";
/// What the server sends, so that values that are written alike are told apart.
const BYTES: &str = "SELECT id, array_send(a), record_send(c), array_send(d), range_send(i), array_send(m) FROM nested ORDER BY id";

fn backed_up(version: Version) -> (Shop, String) {
    let shop = Shop::empty_on(version);
    shop.sql(TYPES);
    shop.sql(TABLE);
    shop.ok(&["collection", "create", "shop", "--table", "public.nested"]);
    shop.ok(&["backup", "shop", "--label", "monday"]);
    let before = shop.copy(ALL);
    (shop, before)
}

#[test]
fn nested_values_are_mended_to_the_byte_and_the_mend_is_undone() {
    for version in [Version::Debian, Version::V18] {
        let (shop, before) = backed_up(version);
        let bytes = shop.copy(BYTES);
        shop.sql(
            "UPDATE nested SET a = '{ok}', c.home.zip = 7, d[1].born = '2026-01-01' WHERE id % 2 = 0;
             UPDATE nested SET i = 'empty', m = NULL, n = '{}' WHERE id % 7 = 0; DELETE FROM nested WHERE id > 50;
             INSERT INTO nested (id, g) VALUES (100, '{sad}')",
        );
        let damaged = shop.copy(ALL);
        let mend = shop.mend(&[]);
        assert_eq!((shop.copy(ALL), shop.copy(BYTES)), (before.clone(), bytes));
        shop.ok(&["verify", "monday", "--live"]);
        shop.ok(&["undo", &mend]);
        assert_eq!(shop.copy(ALL), damaged);
        shop.ok(&["backup", "shop", "--incremental"]);
        shop.ok(&["verify", "shop", "--live"]);
        shop.ok(&["restore", "shop", "--rename", "public.nested=public.beside"]);
        assert_eq!(shop.copy(&ALL.replace("nested", "beside")), damaged);
        shop.assert_nothing_of_mends_held();
    }
}

#[test]
fn nested_values_are_restored_into_a_database_in_which_their_types_have_other_numbers() {
    for version in [Version::Debian, Version::V18] {
        let (mut shop, before) = backed_up(version);
        shop.server
            .admin()
            .batch_execute("CREATE DATABASE other")
            .unwrap();
        shop.database = "other";
        let refused = shop.fails(1, &["restore", "shop"]);
        assert!(refused.contains("does not exist"), "{refused}");
        for operation in shop.unfinished() {
            shop.ok(&["operation", "cancel", &operation]);
        }
        // Numbers are given in the order in which types are made.
        shop.sql("CREATE TYPE first AS ENUM ('a'); CREATE TYPE second AS (a first)");
        shop.sql(&TYPES.replace("zip numeric(5,0)", "zip numeric(6,0)"));
        let refused = shop.fails(1, &["restore", "shop"]);
        assert!(
            refused.contains("types of its columns are others here")
                && refused.contains("numeric(6,0)"),
            "{refused}"
        );
        for operation in shop.unfinished() {
            shop.ok(&["operation", "cancel", &operation]);
        }
        shop.sql("ALTER TYPE \"Odd Types\".\"A,b\" ALTER ATTRIBUTE zip TYPE numeric(5,0)");
        shop.ok(&["restore", "shop"]);
        assert_eq!(shop.copy(ALL), before);
        shop.ok(&["verify", "shop", "--live"]);
        let numbers = "SELECT 'mood'::regtype::oid, 'person'::regtype::oid";
        let there = shop.copy(numbers);
        shop.database = "shop";
        assert_ne!(shop.copy(numbers), there);
    }
}

#[test]
fn a_composite_type_that_was_altered_is_a_difference_of_the_table() {
    let (shop, before) = backed_up(Version::Debian);
    shop.sql("ALTER TYPE person ADD ATTRIBUTE age int");
    for arguments in [
        &["backup", "shop", "--incremental"][..],
        &["restore", "shop", "--in-place"],
    ] {
        let refused = shop.fails(1, arguments);
        assert!(refused.contains("born date, age integer)"), "{refused}");
    }
    shop.sql("ALTER TYPE person DROP ATTRIBUTE age");
    assert_eq!(shop.copy(ALL), before);
    shop.ok(&["restore", "shop", "--in-place"]);
    // One that goes, and another of its name and type that comes: no row is written, and its values are gone.
    shop.sql("ALTER TYPE person DROP ATTRIBUTE born; ALTER TYPE person ADD ATTRIBUTE born date");
    shop.ok(&["backup", "shop", "--incremental"]);
    shop.ok(&["verify", "shop", "--live"]);
    shop.mend(&["--to", "monday"]);
    assert_eq!(shop.copy(ALL), before);
}
