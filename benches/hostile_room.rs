//! What one hostile room costs the others: how long sends take in ordinary rooms while nothing else happens, and while
//! another server fills a room with forks as fast as it may.
//!
//! `cargo bench --bench hostile_room`: loopback only, bounded, ends by itself. The other server is one that the
//! integration tests play. It has all power in its room, so that its forks contradict each other in the power levels
//! too, which is what makes state resolution dear. All of its events are made and signed before time is taken.

/// The language of the integration tests.
#[path = "../tests/it"]
mod it {
    #[expect(dead_code, unused_imports, reason = "little of it is needed here")]
    pub mod support;
}

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use myelin_core::pdu::Pdu;
use serde_json::{Value, json};

use self::it::support::{
    Room, User,
    scripted::{Place, Scripted, Wanted, value},
    story::Story,
};

/// Ordinary rooms, with one sender each.
const ROOMS: usize = 4;
/// Between two sends in one room.
const PACE: Duration = Duration::from_millis(25);
/// Sends in each room, for each figure.
const SENDS: u32 = 400;
/// Members of the hostile room.
const MEMBERS: usize = 300;
/// Events that branch off at the same place, one after the other in each branch.
const BRANCHES: usize = 40;
const LENGTH: usize = 100;
/// Events in a transaction.
const PAGE: usize = 50;

#[tokio::main]
async fn main() {
    eprintln!("starting a server, and a room of {MEMBERS} members that another server is in");
    let mut story = Story::begin().await;
    let transactions = prepare(&mut story).await;
    let senders = join_all((0..ROOMS).map(|number| ordinary(&story, number))).await;
    // What is done once is done before time is taken.
    measure(&senders, SENDS / 10).await;
    eprintln!("{ROOMS} rooms, a message each {} ms in each of them", PACE.as_millis());
    let alone = measure(&senders, SENDS).await;
    eprintln!("the same, and {BRANCHES} forks of {LENGTH} events each as fast as they are taken");
    let is_over = Arc::new(AtomicBool::new(false));
    #[expect(clippy::disallowed_methods, reason = "no actor's: it is awaited below")]
    let attack = tokio::spawn(attack(story.scripted.clone(), transactions, Arc::clone(&is_over)));
    let beside = measure(&senders, SENDS).await;
    is_over.store(true, Ordering::Relaxed);
    let sent = attack.await.expect("the attack goes on");
    let left = waiting(&story).await;
    println!("{:<44}{:>10}{:>10}{:>10}", "sends in ordinary rooms, ms", "p50", "p95", "p99");
    report("alone", &alone);
    report("beside a hostile room", &beside);
    let ratio = percentile(&beside, 99).as_secs_f64() / percentile(&alone, 99).as_secs_f64();
    println!(
        "p99 beside a hostile room to p99 alone: {ratio:.2}; {sent} hostile events sent, {left} still waiting"
    );
}

/// A user alone in a room.
async fn ordinary(story: &Story, number: usize) -> (User, Room) {
    let user = story.server.user(&format!("ordinary{number}")).await;
    let room = user.create_room().await;
    (user, room)
}

/// Fills the room, takes all power, and makes forks: branches of contradicting state, from each of which one event
/// comes in turn.
async fn prepare(story: &mut Story) -> Vec<Vec<Value>> {
    let power = json!({ "users": { story.mallory.as_str(): 100, &story.alice.id: 100 } });
    let path = format!("rooms/{}/state/m.room.power_levels", story.room);
    story.alice.put(&path, power).await.ok();
    story.place = Place::of(&story.alice, &story.room).await;
    let mut joins = Vec::new();
    for number in 0..MEMBERS {
        let user = story.scripted.user(&format!("member{number}"));
        let join = Wanted::state(&user, "m.room.member", user.as_str(), json!({ "membership": "join" }));
        joins.push(story.scripted.make(&mut story.place, join));
    }
    for page in joins.chunks(PAGE) {
        story.scripted.send(&page.iter().collect::<Vec<_>>()).await;
    }
    story.arrived(joins.last().expect("there are members")).await;
    let mut branches: Vec<Vec<Pdu>> = (0..BRANCHES).map(|number| branch(story, number)).collect();
    let mut events = Vec::new();
    for _ in 0..LENGTH {
        events.extend(branches.iter_mut().map(|branch| value(&branch.remove(0))));
    }
    events.chunks(PAGE).map(<[Value]>::to_vec).collect()
}

/// A fork of the room: power levels, topics, names and kicks of its own.
fn branch(story: &Story, number: usize) -> Vec<Pdu> {
    let mut place = story.place.clone();
    (0..LENGTH)
        .map(|step| {
            let wanted = match step % 4 {
                0 => {
                    let users = json!({
                        story.mallory.as_str(): 100, &story.alice.id: 100, format!("@x{number}:y.z"): step,
                    });
                    Wanted::state(&story.mallory, "m.room.power_levels", "", json!({ "users": users }))
                }
                1 => {
                    let user = story.scripted.user(&format!("member{}", (number * LENGTH + step) % MEMBERS));
                    let content = json!({ "membership": "leave", "reason": number });
                    Wanted::state(&story.mallory, "m.room.member", user.as_str(), content)
                }
                2 => {
                    Wanted::state(&story.mallory, "m.room.topic", "", json!({ "topic": number.to_string() }))
                }
                _ => Wanted::text(&story.mallory, "and so on"),
            };
            story.scripted.make(&mut place, wanted)
        })
        .collect()
}

/// Sends one transaction after the other, until all are sent or it is over: how many events were taken.
async fn attack(scripted: Scripted, transactions: Vec<Vec<Value>>, is_over: Arc<AtomicBool>) -> usize {
    let mut sent = 0;
    for events in transactions {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        scripted.try_send(&events).await;
        sent += events.len();
    }
    sent
}

/// Events of the other server that have not been tried yet.
async fn waiting(story: &Story) -> i64 {
    let storage = story.server.storage().await;
    let client = storage.get().await.expect("connected");
    let query = "SELECT COUNT(*) FROM inbound_pdus WHERE attempts = 0";
    client.query_one(query, &[]).await.expect("read").get(0)
}

/// How long sends took in all rooms, each counted from when it was due: a server that stalls is not spared the sends
/// that would have come meanwhile.
async fn measure(senders: &[(User, Room)], count: u32) -> Vec<Duration> {
    let each = senders.iter().map(|(user, room)| async move {
        let begin = Instant::now();
        let mut took = Vec::new();
        for number in 0..count {
            let due = begin + PACE * number;
            tokio::time::sleep_until(due.into()).await;
            user.send_text(room, "as always").await;
            took.push(due.elapsed());
        }
        took
    });
    let mut took: Vec<Duration> = join_all(each).await.into_iter().flatten().collect();
    took.sort_unstable();
    took
}

/// Of durations in order, the one that so many of a hundred do not exceed.
fn percentile(took: &[Duration], percent: usize) -> Duration {
    took[(took.len() * percent / 100).min(took.len() - 1)]
}

fn report(what: &str, took: &[Duration]) {
    let ms = |percent| percentile(took, percent).as_secs_f64() * 1000.0;
    println!("{what:<44}{:>10.1}{:>10.1}{:>10.1}", ms(50), ms(95), ms(99));
}
