use std::time::Instant;
use mendb_model::*;
use mendb_model::name::TablePath;
use mendb_repo::*;
fn main() {
    let col = |n: &str, t| Column { name: n.into(), column_type: t, not_null: n == "id" };
    let schema = TableSchema { columns: vec![
        col("id", ColumnType::Int64), col("customer", ColumnType::Int64), col("price", ColumnType::Double),
        col("status", ColumnType::Utf8), col("note", ColumnType::Utf8), col("at", ColumnType::Datetime),
        col("amount", ColumnType::Decimal{precision:12,scale:2}), col("flag", ColumnType::Bool)],
        key: vec!["id".into()], indexes: vec![] };
    let n = 2_000_000u64;
    let types = schema.value_types();
    let mut x = 88172645463325252u64;
    let mut rnd = || { x ^= x << 13; x ^= x >> 7; x ^= x << 17; x };
    let words = ["express","deliver","carefully","quick","pending","final","furious","regular","silent","bold"];
    let changes = std::env::args().nth(1).as_deref() == Some("changes");
    let mut blocks = vec![]; let mut b = RowBlockBuilder::new(); let mut bytes = 0;
    for id in 0..n {
        let key = key::encode(&[ColumnType::Int64], [Value::Int(id as i64 * 3).as_ref()]);
        let mut note = String::new();
        while note.len() < 34 { note.push_str(words[(rnd() % 10) as usize]); note.push(' '); }
        let values = [Value::Int((rnd() % 150_000) as i64), Value::Double((rnd() % 1_000_000) as f64 / 100.0),
            Value::Text(["new","paid","shipped","returned"][(rnd()%4) as usize].into()), Value::Text(note),
            Value::Int(1_700_000_000 + (rnd() % 10_000_000) as i64), Value::Decimal((rnd() % 10_000_000) as i128), if rnd()%3==0 {Value::Null} else {Value::Bool(rnd()%2==0)}];
        let mut row = row::encode(&types, &values);
        if changes { row = if id % 3 == 0 { Change::reset(row, id).encode() } else { Change::upsert(ColumnSet::of([0,1,2,3,4,5,6]), row, id).encode() }; }
        bytes += key.len() + row.len();
        b.push(&key, &row);
        if b.size_bytes() > 1 << 20 { blocks.push(b.finish()); }
    }
    blocks.push(b.finish());
    println!("row bytes {}", bytes as f64 / n as f64);
    let content = if changes { Content::Changes } else { Content::Rows };
    let options = RepositoryOptions::default();
    for _ in 0..3 {
        let t = Instant::now();
        let mut e = SegmentEncoder::new(TablePath::table("t"), &schema, content, &options).unwrap();
        let mut segs = vec![];
        for b in &blocks { e.push(b).unwrap(); while let Some(s) = e.take() { segs.push(s); } }
        e.finish().unwrap(); while let Some(s) = e.take() { segs.push(s); }
        let w = t.elapsed().as_secs_f64();
        let out: usize = segs.iter().map(|s| s.bytes.len()).sum();
        let t = Instant::now();
        let mut rows = 0;
        for s in &segs { let entry = s.clone().stored_as("o".into());
            for b in SegmentReader::new("o".into(), s.bytes.clone(), &entry, &schema, content).unwrap() { rows += b.unwrap().len(); } }
        let r = t.elapsed().as_secs_f64();
        assert_eq!(rows as u64, n);
        println!("write {:.2} M/s, read {:.2} M/s, {} segs, {:.1} B/row", n as f64 / w / 1e6, n as f64 / r / 1e6, segs.len(), out as f64 / n as f64);
        if std::env::var("DUMP").is_ok() { std::fs::write("/tmp/seg.parquet", &segs[0].bytes).unwrap(); }
    }
    // conversion only
    let t = Instant::now();
    let mut e = arrow::BatchEncoder::new(&schema, content).unwrap(); let mut batches = vec![];
    for b in &blocks { for (k, v) in b.iter() { e.push(k, v).unwrap(); } batches.push(e.finish().unwrap()); }
    println!("to arrow {:.2} M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
    let t = Instant::now(); let mut c = 0;
    let d = arrow::BatchDecoder::new(&schema, content, &batches[0].schema()).unwrap();
    for b in &batches { for x in d.blocks(b, 4 << 20).unwrap() { c += x.len(); } }
    println!("from arrow {:.2} M/s {c}", n as f64 / t.elapsed().as_secs_f64() / 1e6);
}
