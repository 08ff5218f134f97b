//! Three servers, one room, a network that delays, reorders and repeats: the same state in the end.

use std::collections::VecDeque;

use myelin_actors::room::messages::{Received, SendEvent};
use myelin_core::pdu::Pdu;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use ruma::{OwnedRoomId, RoomVersionId};
use serde_json::json;

use crate::support::{World, content, member, text};

struct Network {
    worlds: Vec<World>,
    room: OwnedRoomId,
    /// Everything that was ever sent, for those who ask for what they miss.
    sent: Vec<Pdu>,
    /// To whom, what.
    on_their_way: VecDeque<(usize, Pdu)>,
}

impl Network {
    async fn start(version: RoomVersionId) -> Self {
        let worlds: Vec<World> = ["a.test", "b.test", "c.test"].into_iter().map(World::new).collect();
        let alice = worlds[0].user("alice");
        let room = worlds[0].public_room(&alice, version.clone()).await;
        let mut network = Self { worlds, room, sent: Vec::new(), on_their_way: VecDeque::new() };
        network.note_new(0).await;
        network.on_their_way.clear();
        for server in 1..network.worlds.len() {
            for pdu in network.sent.clone() {
                network.deliver(server, pdu).await;
            }
        }
        for server in 1..network.worlds.len() {
            let user = network.worlds[server].user("user");
            network.send(server, member(&user, "join")).await;
            network.settle().await;
        }
        let levels = json!({ "users": {
            network.worlds[1].user("user").as_str(): 60,
            network.worlds[2].user("user").as_str(): 60,
            alice.as_str(): 100,
        }, "state_default": 50 });
        let levels = if version == RoomVersionId::V12 {
            json!({ "users": {
                network.worlds[1].user("user").as_str(): 60,
                network.worlds[2].user("user").as_str(): 60,
            }, "state_default": 50 })
        } else {
            levels
        };
        network.send(0, SendEvent::state(alice, "m.room.power_levels", "", content(levels))).await;
        network.settle().await;
        network
    }

    async fn send(&mut self, server: usize, event: SendEvent) {
        // What the rules forbid at that moment is no failure of the test.
        if self.worlds[server].rooms.get(&self.room).await.unwrap().send(event).await.is_ok() {
            self.note_new(server).await;
        }
    }

    /// Puts what the server has added on its way to the others.
    async fn note_new(&mut self, server: usize) {
        let view = self.worlds[server].rooms.view(&self.room).await.unwrap();
        for event in &view.recent {
            let own = event.pdu.sender().server_name() == self.worlds[server].name;
            if own && !self.sent.iter().any(|pdu| pdu.event_id() == event.pdu.event_id()) {
                self.sent.push(event.pdu.clone());
                for other in (0..self.worlds.len()).filter(|other| *other != server) {
                    self.on_their_way.push_back((other, event.pdu.clone()));
                }
            }
        }
    }

    /// Delivers, fetching what is missing first, as the helper outside a room does.
    async fn deliver(&self, server: usize, pdu: Pdu) {
        let mut stack = vec![pdu];
        while let Some(pdu) = stack.last() {
            let handle = self.worlds[server].rooms.begin(&self.room, &pdu.version().id).await.unwrap();
            match handle.receive(pdu.clone()).await.unwrap() {
                Received::Missing(ids) => {
                    assert!(stack.len() < 1000, "missing events without end");
                    let missing =
                        self.sent.iter().filter(|pdu| ids.iter().any(|id| pdu.event_id() == id)).cloned();
                    let before = stack.len();
                    stack.extend(missing.collect::<Vec<_>>());
                    assert!(stack.len() > before, "nobody has sent {ids:?}");
                }
                _ => drop(stack.pop()),
            }
        }
    }

    async fn deliver_some(&mut self, rng: &mut StdRng, share: f64) {
        let mut all: Vec<_> = self.on_their_way.drain(..).collect();
        all.shuffle(rng);
        for (server, pdu) in all {
            if rng.random_bool(share) {
                self.deliver(server, pdu.clone()).await;
                if rng.random_bool(0.2) {
                    self.deliver(server, pdu).await;
                }
            } else {
                self.on_their_way.push_back((server, pdu));
            }
        }
    }

    async fn settle(&mut self) {
        while let Some((server, pdu)) = self.on_their_way.pop_front() {
            self.deliver(server, pdu).await;
        }
    }

    async fn states(&self) -> Vec<Vec<String>> {
        let mut states = Vec::new();
        for world in &self.worlds {
            let view = world.rooms.view(&self.room).await.unwrap();
            let mut state = Vec::new();
            for nid in view.state.values() {
                state.push(world.event_id(*nid).await.to_string());
            }
            state.sort();
            states.push(state);
        }
        states
    }
}

async fn converges(version: RoomVersionId, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut network = Network::start(version.clone()).await;
    for step in 0..30 {
        let server = rng.random_range(0..3);
        let user = network.worlds[server].user(if server == 0 { "alice" } else { "user" });
        let event = match rng.random_range(0..5) {
            0 => text(&user, &format!("{step}")),
            1 => SendEvent::state(user, "m.room.topic", "", content(json!({ "topic": step.to_string() }))),
            2 => SendEvent::state(
                user,
                "m.room.join_rules",
                "",
                content(json!({ "join_rule": if rng.random_bool(0.5) { "invite" } else { "public" } })),
            ),
            3 => {
                let extra = network.worlds[server].user(&format!("extra{}", rng.random_range(0..2)));
                member(&extra, if rng.random_bool(0.7) { "join" } else { "leave" })
            }
            _ => {
                let target = network.worlds[rng.random_range(0..3)].user("extra0");
                let membership = if rng.random_bool(0.5) { "ban" } else { "leave" };
                SendEvent::state(
                    user,
                    "m.room.member",
                    target.as_str(),
                    content(json!({ "membership": membership })),
                )
            }
        };
        network.send(server, event).await;
        network.deliver_some(&mut rng, 0.4).await;
    }
    network.settle().await;
    // What one server soft-failed another may have built upon: a last word of each joins the forks.
    for server in 0..3 {
        let user = network.worlds[server].user(if server == 0 { "alice" } else { "user" });
        network.send(server, text(&user, "the last word")).await;
        network.settle().await;
    }
    let states = network.states().await;
    assert_eq!(states[0], states[1], "version {version}, seed {seed}");
    assert_eq!(states[0], states[2], "version {version}, seed {seed}");
    assert!(states[0].len() >= 6);
}

#[actix_rt::test]
async fn three_servers_converge_in_room_version_1() {
    for seed in 0..5 {
        converges(RoomVersionId::V1, seed).await;
    }
}

#[actix_rt::test]
async fn three_servers_converge_in_room_version_10() {
    for seed in 0..5 {
        converges(RoomVersionId::V10, seed).await;
    }
}

#[actix_rt::test]
async fn three_servers_converge_in_room_version_12() {
    for seed in 0..5 {
        converges(RoomVersionId::V12, seed).await;
    }
}
