//! A log that one process at a time appends to: what is acknowledged stays, and nobody appends beside another.
//!
//! `MENDB_LOG_INTERLEAVINGS=1000 cargo nextest run -p mendb-repo log` tries so many orders of requests,
//! `MENDB_LOG_INTERLEAVINGS_FROM` is the first seed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use futures::TryStreamExt;
use mendb_repo::log::{End, Leader, Log, LogPlace, Piece};
use mendb_repo::{Error, RepositoryOptions};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use crate::faulty_store::{Conditions, Fault, FaultyStore, Gate, Request};
use crate::parts_sample;
use crate::s3_server::{BUCKET, Server};

/// Processes that share a log, and requests of each test of their order.
const PROCESSES: usize = 3;
const REQUESTS: usize = 600;

/// An entry: the epoch of who wrote it, and a number that no other has.
type Item = (u64, u64);

fn options() -> RepositoryOptions {
    RepositoryOptions {
        // Nobody is found out by time here.
        lease_ms: 60 * 60 * 1000,
        ..parts_sample::options()
    }
}

fn place_on(store: FaultyStore) -> LogPlace {
    LogPlace::with_store(Arc::new(store), Path::from("p"), "ours:", options())
}

/// The log in a place, made where there is none.
async fn made(place: LogPlace) -> Log {
    let id = place.create().await.unwrap();
    place.log(id)
}

/// That of a store, made behind its faults and gates.
async fn log_on(store: FaultyStore) -> Log {
    let id = place_on(store.unwatched()).create().await.unwrap();
    place_on(store).log(id)
}

fn bytes(items: &[Item]) -> Vec<u8> {
    serde_json::to_vec(items).unwrap()
}

/// All items of a log, and its end.
async fn read(log: &Log) -> Result<(Vec<Item>, End), Error> {
    let mut items: Vec<Item> = Vec::new();
    let mut take = |piece: Piece<'_>| {
        let more: &[u8] = match piece {
            Piece::Start(snapshot) => {
                items.clear();
                snapshot.unwrap_or_default()
            }
            Piece::Entry(entry) => entry,
        };
        if !more.is_empty() {
            let more: Vec<Item> = serde_json::from_slice(more).map_err(|e| e.to_string())?;
            items.extend(more);
        }
        Ok(())
    };
    let end = log.read(&mut take).await?;
    Ok((items, end))
}

async fn lead(log: &Log) -> Leader {
    let turn = log.turn_now().await.unwrap();
    let (_, end) = read(log).await.unwrap();
    log.lead(turn, &end, None).await.unwrap().unwrap()
}

async fn append(leader: &Leader, number: u64) -> Result<(), Error> {
    leader.append(&bytes(&[(leader.epoch(), number)])).await
}

async fn snapshot(log: &Log, leader: &Leader) {
    let point = leader.snapshot_point().await;
    let (items, _) = read(log).await.unwrap();
    leader.snapshot(point, &bytes(&items)).await.unwrap();
}

async fn is_refused(leader: &Leader) -> bool {
    let refused = append(leader, 9).await;
    matches!(refused, Err(Error::NotLeading { .. }))
}

/// One process after another leads, and those of before are refused whenever they wake.
async fn each_takes_over_from_the_one_before(place: LogPlace) {
    let log = made(place).await;
    let first = lead(&log).await;
    for number in 0..3 {
        append(&first, number).await.unwrap();
    }
    let second = lead(&log).await;
    append(&second, 3).await.unwrap();
    assert!(is_refused(&first).await);
    // What is covered goes, and the first is refused all the same.
    snapshot(&log, &second).await;
    append(&second, 4).await.unwrap();
    assert!(is_refused(&first).await);
    let third = lead(&log).await;
    assert!(is_refused(&second).await);
    assert!(*second.lost().borrow());
    append(&third, 5).await.unwrap();
    let (items, end) = read(&log).await.unwrap();
    let wanted = [(1, 0), (1, 1), (1, 2), (2, 3), (2, 4), (3, 5)];
    assert_eq!(items, wanted);
    assert_eq!(end.epoch, 3);
    // Who ends in order is not waited for.
    third.release().await;
    log.wait_for_turn(&mut |look| panic!("{look:?}"))
        .await
        .unwrap();
    assert_eq!(log.leading().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_in_a_directory_and_on_s3_one_at_a_time_leads() {
    each_takes_over_from_the_one_before(LogPlace::open("memory:", options()).unwrap()).await;
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("journal");
    let url = directory.to_str().unwrap();
    each_takes_over_from_the_one_before(LogPlace::open(url, options()).unwrap()).await;
    let server = Server::start();
    let options = RepositoryOptions {
        s3: server
            .settings()
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        ..options()
    };
    let url = format!("s3://{BUCKET}/journals/one");
    let place = LogPlace::open(&url, options).unwrap();
    place.check_conditions().await.unwrap();
    each_takes_over_from_the_one_before(place).await;
}

#[tokio::test]
async fn who_read_an_old_end_does_not_lead_though_its_number_is_free_again() {
    let log = log_on(FaultyStore::default()).await;
    let leader = lead(&log).await;
    append(&leader, 0).await.unwrap();
    let (_, old) = read(&log).await.unwrap();
    append(&leader, 1).await.unwrap();
    append(&leader, 2).await.unwrap();
    snapshot(&log, &leader).await;
    // The entry behind the old end was removed.
    let turn = log.turn_now().await.unwrap();
    assert!(log.lead(turn, &old, None).await.unwrap().is_none());
    append(&leader, 3).await.unwrap();
    let (items, _) = read(&log).await.unwrap();
    assert_eq!(items, [(1, 0), (1, 1), (1, 2), (1, 3)]);
}

#[tokio::test]
async fn of_two_whose_turn_it_is_one_leads_and_the_other_waits_for_it() {
    let log = log_on(FaultyStore::default()).await;
    for _ in 0..2 {
        let turns = [log.turn_now().await.unwrap(), log.turn_now().await.unwrap()];
        let mut leaders = Vec::new();
        for turn in turns {
            let (_, end) = read(&log).await.unwrap();
            leaders.extend(log.lead(turn, &end, None).await.unwrap());
        }
        let [leader] = leaders.try_into().unwrap();
        append(&leader, 0).await.unwrap();
        assert!(log.leading().await.unwrap().is_some());
        leader.release().await;
    }
}

#[tokio::test]
async fn an_answer_that_got_lost_is_found_out_and_nothing_is_there_twice() {
    let faulty = FaultyStore::default();
    let log = log_on(faulty.clone()).await;
    faulty.fail(Request::Put, "log/", Fault::AnswerLost, 1);
    let leader = lead(&log).await;
    faulty.fail(Request::Put, "log/", Fault::AnswerLost, 2);
    faulty.fail(Request::Put, "log/", Fault::Unavailable, 3);
    append(&leader, 0).await.unwrap();
    append(&leader, 1).await.unwrap();
    assert_eq!(faulty.waiting(), 0);
    let (items, _) = read(&log).await.unwrap();
    assert_eq!(items, [(1, 0), (1, 1)]);
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_at_the_start() {
    for conditions in [
        Conditions::CreateIgnored,
        Conditions::UpdateIgnored,
        Conditions::UpdateUnknown,
        Conditions::UpdateNever,
    ] {
        let mut faulty = FaultyStore::default();
        faulty.conditions = conditions;
        let error = place_on(faulty.clone())
            .check_conditions()
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::NoSharedLog { .. }),
            "{conditions:?}: {error:?}"
        );
        let left: Vec<_> = faulty.below.list(None).try_collect().await.unwrap();
        assert_eq!(left, [], "{conditions:?}");
    }
}

#[tokio::test]
async fn an_object_that_is_missing_damaged_or_of_another_log_is_named() {
    let faulty = FaultyStore::default();
    let log = log_on(faulty.clone()).await;
    let leader = lead(&log).await;
    for number in 0..4 {
        append(&leader, number).await.unwrap();
    }
    let name = |number: u32| format!("log/{number:020}");
    let at = |number: u32| Path::from(format!("p/{}", name(number)));
    let get = async |number| {
        faulty
            .below
            .get(&at(number))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
    };
    let put = async |number, bytes: PutPayload| faulty.below.put(&at(number), bytes).await.unwrap();
    let (third, fourth) = (get(3).await, get(4).await);
    let refused = async |number: u32| {
        let error = read(&log).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(&name(number)), "{error}");
    };
    faulty.below.delete(&at(3)).await.unwrap();
    refused(3).await;
    put(3, fourth.into()).await;
    refused(3).await;
    let mut flipped = third.to_vec();
    flipped[5] ^= 1;
    put(3, flipped.into()).await;
    refused(3).await;
    put(3, third.into()).await;
    assert_eq!(read(&log).await.unwrap().0.len(), 4);
    // The same number in another log.
    let other = FaultyStore::default();
    let foreign = lead(&log_on(other.clone()).await).await;
    append(&foreign, 0).await.unwrap();
    append(&foreign, 1).await.unwrap();
    let foreign = other
        .below
        .get(&at(3))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    put(3, foreign.into()).await;
    refused(3).await;
}

/// What all processes of a test know.
#[derive(Default)]
struct World {
    acknowledged: RefCell<Vec<Item>>,
    next: Cell<u64>,
    takeovers: Cell<u64>,
}

/// Leads, appends and makes snapshots, again and again.
async fn work(world: Rc<World>, log: Log, mut dice: StdRng) {
    loop {
        let turn = log.turn_now().await.unwrap();
        let (mut items, end) = match read(&log).await {
            Ok(read) => read,
            // Others were faster each time.
            Err(Error::Damaged { detail, .. }) if detail.contains("faster") => continue,
            Err(error) => panic!("{error}"),
        };
        let Some(leader) = log.lead(turn, &end, None).await.unwrap() else {
            continue;
        };
        world.takeovers.set(world.takeovers.get() + 1);
        for _ in 0..dice.random_range(1..12) {
            let item = (leader.epoch(), world.next.replace(world.next.get() + 1));
            match leader.append(&bytes(&[item])).await {
                Ok(()) => {}
                Err(Error::NotLeading { .. }) => break,
                Err(error) => panic!("{error}"),
            }
            world.acknowledged.borrow_mut().push(item);
            items.push(item);
            if dice.random_range(0..4) == 0 {
                let point = leader.snapshot_point().await;
                leader.snapshot(point, &bytes(&items)).await.unwrap();
            }
        }
    }
}

/// What was acknowledged is there, once, in the order of epochs.
async fn check(world: &World, log: &Log, seed: u64) {
    let known = world.acknowledged.borrow().clone();
    let (items, _) = read(log).await.unwrap();
    assert!(
        items.is_sorted_by_key(|(epoch, _)| *epoch),
        "seed {seed}: {items:?}"
    );
    let mut numbers: Vec<u64> = items.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert!(numbers.is_sorted_by(|a, b| a < b), "seed {seed}: {items:?}");
    for item in known {
        assert!(
            items.contains(&item),
            "seed {seed}: {item:?} is lost: {items:?}"
        );
    }
}

/// Lets requests of processes through in an order that a seed draws; some are stopped for long, some killed.
async fn interleave(seed: u64) -> u64 {
    let mut dice = StdRng::seed_from_u64(seed);
    let world = Rc::new(World::default());
    let shared = FaultyStore::default();
    let plain = log_on(shared.unwatched()).await;
    let id = plain.id().clone();
    let begin = |dice: &mut StdRng| {
        let mut store = shared.unwatched();
        let gate = Gate::default();
        store.gate = Some(gate.clone());
        let log = place_on(store.clone()).log(id.clone());
        let own = StdRng::seed_from_u64(dice.random());
        let task: JoinHandle<()> = spawn_local(work(Rc::clone(&world), log, own));
        (store, gate, task)
    };
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| begin(&mut dice)).collect();
    let mut stopped = [0; PROCESSES];
    for request in 0..REQUESTS {
        let at = dice.random_range(0..PROCESSES);
        match dice.random_range(0..100) {
            0 => {
                processes[at].2.abort();
                processes[at] = begin(&mut dice);
            }
            1 => stopped[at] = request + dice.random_range(20..200),
            2..=4 => processes[at]
                .0
                .fail(Request::Put, "log/", Fault::AnswerLost, 1),
            _ => {}
        }
        if stopped[at] < request {
            processes[at].1.let_through();
        }
        for _ in 0..8 {
            yield_now().await;
        }
        for (_, _, task) in &processes {
            assert!(!task.is_finished(), "seed {seed}: a process panicked");
        }
        if request.is_multiple_of(100) {
            check(&world, &plain, seed).await;
        }
    }
    for (_, _, task) in &processes {
        task.abort();
    }
    check(&world, &plain, seed).await;
    // All that a snapshot covers goes with the next, but for what epochs have begun with.
    let last = lead(&plain).await;
    snapshot(&plain, &last).await;
    let entries = shared.below.list(Some(&Path::from("p/log")));
    let entries: Vec<_> = entries.try_collect().await.unwrap();
    assert_eq!(entries.len() as u64, last.epoch(), "seed {seed}");
    world.takeovers.get()
}

#[test]
fn in_any_order_of_requests_nothing_acknowledged_is_lost_and_nobody_appends_beside_another() {
    let number = |name: &str, otherwise: u64| match std::env::var(name) {
        Ok(number) => number.parse().expect("a number"),
        Err(_) => otherwise,
    };
    let first = number("MENDB_LOG_INTERLEAVINGS_FROM", 0);
    let mut takeovers = 0;
    for seed in first..first + number("MENDB_LOG_INTERLEAVINGS", 20) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().unwrap();
        takeovers += LocalSet::new().block_on(&runtime, interleave(seed));
    }
    assert!(takeovers > 0);
}
