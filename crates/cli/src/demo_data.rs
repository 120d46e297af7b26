//! The data of `mendb demo`: orders, their line items and customers of the TPC-H benchmark, and rounds
//! of changes to them.
//!
//! Everything is a function of the scale factor and the round: the same call gives the same rows.
//! At scale 1 there are 1.5 million orders, about 6 million line items and 150,000 customers.

use std::ops::Range;

use mendb_model::{Column, ColumnType, IndexSchema, TableSchema, Value, key};
use tpchgen::decimal::TPCHDecimal;
use tpchgen::generators::{
    Customer, CustomerGenerator, LineItem, LineItemGenerator, Order, OrderGenerator,
};

/// The table of orders.
pub const ORDERS: &str = "orders";
/// The table of their items.
pub const LINEITEM: &str = "lineitem";
/// The table of those who order.
pub const CUSTOMER: &str = "customer";

/// Money: as wide as TPC-H wants it.
const MONEY: ColumnType = ColumnType::Decimal {
    precision: 15,
    scale: 2,
};
/// Days from 1970-01-01 to 1992-01-01, when the orders begin.
const FIRST_DAY: i64 = 8035;
/// Days from the first order to the last shipment.
const DAYS: i64 = 2557;

/// A table to create and fill.
pub struct DemoTable {
    /// Its name.
    pub name: &'static str,
    /// Its schema.
    pub schema: TableSchema,
    /// The keys that its shards begin at.
    pub splits: Vec<Vec<u8>>,
    /// The keys that the shards of its indexes begin at, by index.
    pub index_splits: Vec<(&'static str, Vec<Vec<u8>>)>,
    /// Its rows in key order: one value per column.
    pub rows: Box<dyn Iterator<Item = Vec<Value>> + Send>,
}

/// One change of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DemoChange {
    /// Sets some columns, named by their place, of a row that is there.
    Upsert(&'static str, Vec<(usize, Value)>),
    /// Puts a whole row.
    Replace(&'static str, Vec<Value>),
    /// Removes the row of a key.
    Erase(&'static str, Vec<Value>),
}

/// The tables at a scale factor; 0.01 is the smallest that makes sense.
pub fn tables(scale: f64) -> Vec<DemoTable> {
    let orders = OrderGenerator::calculate_row_count(scale, 1, 1);
    let last_order = OrderGenerator::make_order_key(orders);
    let customers = CustomerGenerator::calculate_row_count(scale, 1, 1);
    let parts = tpchgen::generators::PartGenerator::calculate_row_count(scale, 1, 1);
    let days = FIRST_DAY..FIRST_DAY + DAYS;
    vec![
        DemoTable {
            name: CUSTOMER,
            schema: customer_schema(),
            splits: even(ColumnType::Int64, 1..customers, 3),
            index_splits: vec![("by_nation", even(ColumnType::Int64, 0..25, 2))],
            rows: Box::new(
                CustomerGenerator::new(scale, 1, 1)
                    .iter()
                    .map(|c| customer(&c)),
            ),
        },
        DemoTable {
            name: ORDERS,
            schema: orders_schema(),
            splits: even(ColumnType::Int64, 1..last_order, 4),
            index_splits: vec![
                ("by_customer", even(ColumnType::Int64, 1..customers, 3)),
                ("by_date", even(ColumnType::Date, days.clone(), 3)),
            ],
            rows: Box::new(OrderGenerator::new(scale, 1, 1).iter().map(|o| order(&o))),
        },
        DemoTable {
            name: LINEITEM,
            schema: lineitem_schema(),
            splits: even(ColumnType::Int64, 1..last_order, 6),
            index_splits: vec![
                ("by_part", even(ColumnType::Int64, 1..parts, 4)),
                ("by_ship", even(ColumnType::Date, days, 4)),
            ],
            rows: Box::new(
                LineItemGenerator::new(scale, 1, 1)
                    .iter()
                    .map(|l| lineitem(&l)),
            ),
        },
    ]
}

/// The changes of a round, from 0: new prices and states of some orders, new balances of some
/// customers, orders erased with all their items, and half of the orders that the round before erased
/// put in again.
pub fn changes(scale: f64, round: u32) -> impl Iterator<Item = DemoChange> {
    let orders = OrderGenerator::calculate_row_count(scale, 1, 1);
    let erased = erased_orders(orders, round);
    let erased_keys = key_range(&erased);
    let again = round
        .checked_sub(1)
        .map_or(0..0, |before| first_half(erased_orders(orders, before)));
    let again_keys = key_range(&again);
    let round = i64::from(round);

    let of_orders = OrderGenerator::new(scale, 1, 1)
        .iter()
        .zip(1i64..)
        .filter_map({
            let (erased, again) = (erased.clone(), again.clone());
            move |(row, at)| {
                if erased.contains(&at) {
                    Some(DemoChange::Erase(ORDERS, vec![Value::Int(row.o_orderkey)]))
                } else if again.contains(&at) {
                    Some(DemoChange::Replace(ORDERS, order(&row)))
                } else if at % 97 == round * 31 % 97 && !was_erased(orders, round, at) {
                    Some(repriced(&row, round))
                } else {
                    None
                }
            }
        });
    let last_key = erased_keys.end.max(again_keys.end);
    let of_items = LineItemGenerator::new(scale, 1, 1)
        .iter()
        .take_while(move |row| row.l_orderkey < last_key)
        .filter_map(move |row| {
            if erased_keys.contains(&row.l_orderkey) {
                let key = vec![
                    Value::Int(row.l_orderkey),
                    Value::Int(row.l_linenumber.into()),
                ];
                Some(DemoChange::Erase(LINEITEM, key))
            } else if again_keys.contains(&row.l_orderkey) {
                Some(DemoChange::Replace(LINEITEM, lineitem(&row)))
            } else {
                None
            }
        });
    let of_customers = CustomerGenerator::new(scale, 1, 1)
        .iter()
        .filter_map(move |row| {
            let balance = row.c_acctbal.into_inner() + 100 * (round + 1);
            (row.c_custkey % 53 == round * 17 % 53).then(|| {
                let row = vec![
                    (0, Value::Int(row.c_custkey)),
                    (5, Value::Decimal(balance.into())),
                ];
                DemoChange::Upsert(CUSTOMER, row)
            })
        });
    of_orders.chain(of_items).chain(of_customers)
}

/// The orders that a round erases, by their number from 1: one in a hundred, next to each other, so
/// that they lie in one or two shards.
fn erased_orders(orders: i64, round: u32) -> Range<i64> {
    let count = (orders / 100).max(1);
    let start = 1 + i64::from(round % 9) * (orders / 10) + orders / 20;
    start..start + count
}

/// Whether an order is missing before or after a round.
fn was_erased(orders: i64, round: i64, order: i64) -> bool {
    (0..=u32::try_from(round).unwrap_or(u32::MAX))
        .any(|r| erased_orders(orders, r).contains(&order))
}

fn first_half(range: Range<i64>) -> Range<i64> {
    range.start..range.start + (range.end - range.start) / 2
}

/// The keys of a range of orders by number; they grow with the number.
fn key_range(orders: &Range<i64>) -> Range<i64> {
    if orders.is_empty() {
        return 0..0;
    }
    OrderGenerator::make_order_key(orders.start)..OrderGenerator::make_order_key(orders.end)
}

fn repriced(row: &Order<'_>, round: i64) -> DemoChange {
    let price = row.o_totalprice.into_inner() * (101 + round) / 100;
    DemoChange::Upsert(
        ORDERS,
        vec![
            (0, Value::Int(row.o_orderkey)),
            (2, text("P")),
            (3, Value::Decimal(price.into())),
        ],
    )
}

/// The keys that cut a range of first key columns into parts of the same size.
fn even(column_type: ColumnType, range: Range<i64>, parts: i64) -> Vec<Vec<u8>> {
    let span = range.end - range.start;
    (1..parts)
        .map(|part| Value::Int(range.start + span * part / parts))
        .map(|value| key::encode(&[column_type], [value.as_ref()]))
        .collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn money(decimal: TPCHDecimal) -> Value {
    Value::Decimal(decimal.into_inner().into())
}

fn schema(columns: &[(&str, ColumnType)], key: &[&str], indexes: Vec<IndexSchema>) -> TableSchema {
    let columns = columns.iter().map(|(name, column_type)| Column {
        name: (*name).to_owned(),
        column_type: *column_type,
        not_null: true,
    });
    TableSchema {
        columns: columns.collect(),
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        indexes,
    }
}

fn index(name: &str, column: &str, cover: &[&str]) -> IndexSchema {
    IndexSchema {
        name: name.to_owned(),
        columns: vec![column.to_owned()],
        cover: cover.iter().map(|name| (*name).to_owned()).collect(),
        unique: false,
    }
}

fn customer_schema() -> TableSchema {
    use ColumnType as T;
    schema(
        &[
            ("c_custkey", T::Int64),
            ("c_name", T::Utf8),
            ("c_address", T::Utf8),
            ("c_nationkey", T::Int64),
            ("c_phone", T::Utf8),
            ("c_acctbal", MONEY),
            ("c_mktsegment", T::Utf8),
            ("c_comment", T::Utf8),
        ],
        &["c_custkey"],
        vec![index("by_nation", "c_nationkey", &[])],
    )
}

fn customer(row: &Customer<'_>) -> Vec<Value> {
    vec![
        Value::Int(row.c_custkey),
        Value::Text(row.c_name.to_string()),
        Value::Text(row.c_address.to_string()),
        Value::Int(row.c_nationkey),
        Value::Text(row.c_phone.to_string()),
        money(row.c_acctbal),
        text(row.c_mktsegment),
        text(row.c_comment),
    ]
}

fn orders_schema() -> TableSchema {
    use ColumnType as T;
    schema(
        &[
            ("o_orderkey", T::Int64),
            ("o_custkey", T::Int64),
            ("o_orderstatus", T::Utf8),
            ("o_totalprice", MONEY),
            ("o_orderdate", T::Date),
            ("o_orderpriority", T::Utf8),
            ("o_clerk", T::Utf8),
            ("o_shippriority", T::Int32),
            ("o_comment", T::Utf8),
        ],
        &["o_orderkey"],
        vec![
            index("by_customer", "o_custkey", &["o_totalprice"]),
            index("by_date", "o_orderdate", &[]),
        ],
    )
}

fn order(row: &Order<'_>) -> Vec<Value> {
    vec![
        Value::Int(row.o_orderkey),
        Value::Int(row.o_custkey),
        text(row.o_orderstatus.as_str()),
        money(row.o_totalprice),
        Value::Int(row.o_orderdate.to_unix_epoch().into()),
        text(row.o_orderpriority),
        Value::Text(row.o_clerk.to_string()),
        Value::Int(row.o_shippriority.into()),
        text(row.o_comment),
    ]
}

fn lineitem_schema() -> TableSchema {
    use ColumnType as T;
    schema(
        &[
            ("l_orderkey", T::Int64),
            ("l_linenumber", T::Int32),
            ("l_partkey", T::Int64),
            ("l_suppkey", T::Int64),
            ("l_quantity", T::Int64),
            ("l_extendedprice", MONEY),
            ("l_discount", MONEY),
            ("l_tax", MONEY),
            ("l_returnflag", T::Utf8),
            ("l_linestatus", T::Utf8),
            ("l_shipdate", T::Date),
            ("l_commitdate", T::Date),
            ("l_receiptdate", T::Date),
            ("l_shipinstruct", T::Utf8),
            ("l_shipmode", T::Utf8),
            ("l_comment", T::Utf8),
        ],
        &["l_orderkey", "l_linenumber"],
        vec![
            index("by_part", "l_partkey", &["l_quantity"]),
            index("by_ship", "l_shipdate", &[]),
        ],
    )
}

fn lineitem(row: &LineItem<'_>) -> Vec<Value> {
    let date = |date: tpchgen::dates::TPCHDate| Value::Int(date.to_unix_epoch().into());
    vec![
        Value::Int(row.l_orderkey),
        Value::Int(row.l_linenumber.into()),
        Value::Int(row.l_partkey),
        Value::Int(row.l_suppkey),
        Value::Int(row.l_quantity),
        money(row.l_extendedprice),
        money(row.l_discount),
        money(row.l_tax),
        text(row.l_returnflag),
        text(row.l_linestatus),
        date(row.l_shipdate),
        date(row.l_commitdate),
        date(row.l_receiptdate),
        text(row.l_shipinstruct),
        text(row.l_shipmode),
        text(row.l_comment),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SCALE: f64 = 0.01;

    /// The rows of a table by encoded key.
    type Rows = BTreeMap<Vec<u8>, Vec<Value>>;

    fn key_of(schema: &TableSchema, row: &[Value]) -> Vec<u8> {
        let value = |name: &String| {
            let at = schema
                .columns
                .iter()
                .position(|column| column.name == *name);
            row[at.unwrap()].as_ref()
        };
        key::encode(&schema.key_types(), schema.key.iter().map(value))
    }

    fn load() -> BTreeMap<&'static str, (TableSchema, Rows)> {
        let load = |table: DemoTable| {
            let schema = table.schema;
            let rows = table.rows.map(|row| (key_of(&schema, &row), row)).collect();
            (table.name, (schema, rows))
        };
        tables(SCALE).into_iter().map(load).collect()
    }

    #[test]
    fn rows_fit_their_schemas_and_come_in_key_order() {
        for table in tables(SCALE) {
            table.schema.validate().unwrap();
            let mut last = Vec::new();
            let mut counts = vec![0u32; table.splits.len() + 1];
            for row in table.rows {
                for (column, value) in table.schema.columns.iter().zip(&row) {
                    assert!(column.column_type.accepts(value.as_ref()), "{value:?}");
                }
                let key = key_of(&table.schema, &row);
                assert!(last < key, "{} is not in key order", table.name);
                counts[table.splits.partition_point(|split| *split <= key)] += 1;
                last = key;
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*most < 2 * *least, "{}: {counts:?}", table.name);
        }
    }

    #[test]
    fn every_round_changes_erases_and_puts_in_again_what_it_says() {
        let mut loaded = load();
        for round in 0..3 {
            let mut counts = [0u32; 3];
            for change in changes(SCALE, round) {
                match change {
                    DemoChange::Upsert(table, values) => {
                        counts[0] += 1;
                        let (_, rows) = loaded.get_mut(table).unwrap();
                        let key = key::encode(&[ColumnType::Int64], [values[0].1.as_ref()]);
                        let row = rows.get_mut(&key).expect("an upsert finds its row");
                        for (at, value) in values {
                            row[at] = value;
                        }
                    }
                    DemoChange::Replace(table, row) => {
                        counts[1] += 1;
                        let (schema, rows) = loaded.get_mut(table).unwrap();
                        let there = rows.insert(key_of(schema, &row), row);
                        assert_eq!(there, None, "it was erased before");
                    }
                    DemoChange::Erase(table, key) => {
                        counts[2] += 1;
                        let (schema, rows) = loaded.get_mut(table).unwrap();
                        let types = schema.key_types();
                        let key = key::encode(&types, key.iter().map(Value::as_ref));
                        assert!(rows.remove(&key).is_some(), "an erase finds its row");
                    }
                }
            }
            let [upserts, replaces, erases] = counts;
            assert!(upserts > 100 && erases > 500, "round {round}: {counts:?}");
            assert_eq!(replaces > 250, round > 0, "round {round}: {counts:?}");
        }
        // No item is without its order.
        let (orders, items) = (&loaded[ORDERS].1, &loaded[LINEITEM].1);
        for row in items.values() {
            let order = key::encode(&[ColumnType::Int64], [row[0].as_ref()]);
            assert!(orders.contains_key(&order));
        }
    }

    #[test]
    fn the_same_round_is_the_same_changes() {
        assert!(changes(SCALE, 1).eq(changes(SCALE, 1)));
    }
}
