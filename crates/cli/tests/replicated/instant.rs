//! The instant in which a partition is replaced, while another replica takes rows all the time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::meanwhile::{forget, is_planned};
use crate::shard::{MEND, Shard, insert};

const KEEP: [&str; 2] = ["--on-concurrent-insert", "keep"];
const ROUNDS: usize = 3;

/// Ends who inserts, also where a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Goes on with an operation that was stopped. Returns how many parts it named as lost.
fn goes_on(shard: &Shard, id: &str) -> u64 {
    let mut lost = 0;
    let mut output = shard.here.run(&["operation", "watch", id]);
    while !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let (_, told) = said
            .split_once("before they were on this server: ")
            .expect(&said);
        let (told, _) = told.split_once("; insert them again").unwrap();
        assert!(
            told.contains("202402_") && !told.contains("202401_"),
            "{told}"
        );
        lost += told.split(", ").count() as u64;
        output = shard.here.run(&["operation", "resume", id]);
    }
    lost
}

#[test]
fn what_another_replica_took_stays_or_is_named() {
    let shard = Shard::backed_up();
    let arguments = [&MEND[..], &KEEP].concat();
    let mut done = 0;
    for point in 1.. {
        insert(&shard.here.server, "sales", 2, 700);
        shard.sync();
        assert!(shard.stopped_at(&arguments, point), "it is never planned");
        let planned = is_planned(&shard).then(|| shard.unfinished()).flatten();
        let Some(id) = planned else {
            match shard.unfinished() {
                Some(id) => drop(shard.here.ok(&["operation", "watch", &id])),
                None => drop(shard.here.ok(&MEND)),
            }
            forget(&shard);
            continue;
        };
        let (over, taken) = (AtomicBool::new(false), AtomicU64::new(0));
        let lost = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let from = 100_000 + 10 * taken.load(Ordering::SeqCst);
                    insert(&shard.there, "sales", 2, from);
                    taken.fetch_add(1, Ordering::SeqCst);
                }
            });
            let _over = Over(&over);
            goes_on(&shard, &id)
        });
        shard.sync();
        let late = "SELECT count() FROM shop.sales WHERE id >= 100000";
        let taken = taken.load(Ordering::SeqCst);
        for server in shard.servers() {
            let kept: u64 = server.query(late).trim().parse().unwrap();
            assert_eq!(
                kept / 10 + lost,
                taken,
                "{lost} of {taken} blocks were named as lost"
            );
        }
        shard.here.ok(&MEND);
        shard.equal();
        forget(&shard);
        done += 1;
        if done == ROUNDS {
            return;
        }
    }
}
