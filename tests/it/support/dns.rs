//! A name server that knows what the test tells it, and has no other names.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use hickory_resolver::proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SRV},
    },
};
use parking_lot::Mutex;

type Records = HashMap<(String, RecordType), Vec<RData>>;

/// The name server. It answers until the process ends.
pub struct NameServer {
    pub address: SocketAddr,
    records: Arc<Mutex<Records>>,
}

impl NameServer {
    /// One that knows no names.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = socket.local_addr().expect("it is bound");
        let records = Arc::new(Mutex::new(Records::new()));
        let known = Arc::clone(&records);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if let Ok(query) = Message::from_vec(&buffer[..length]) {
                    let answer = answer(query, &known.lock()).to_vec().expect("it can be written");
                    socket.send_to(&answer, from).ok();
                }
            }
        });
        Self { address, records }
    }

    /// The host has this address.
    pub fn host(&self, name: &str, address: Ipv4Addr) {
        self.add(name, RecordType::A, RData::A(A(address)));
    }

    /// The service is at this host and port.
    pub fn service(&self, name: &str, priority: u16, host: &str, port: u16) {
        let host = Name::from_ascii(format!("{host}.")).expect("a name");
        self.add(name, RecordType::SRV, RData::SRV(SRV::new(priority, 1, port, host)));
    }

    fn add(&self, name: &str, kind: RecordType, data: RData) {
        self.records.lock().entry((format!("{name}."), kind)).or_default().push(data);
    }
}

fn answer(query: Message, records: &Records) -> Message {
    let mut answer = query;
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_available = true;
    answer.additionals.clear();
    answer.edns = None;
    let Some(asked) = answer.queries.first().cloned() else { return answer };
    let name = asked.name().to_ascii().to_ascii_lowercase();
    for data in records.get(&(name.clone(), asked.query_type())).into_iter().flatten() {
        answer.add_answer(Record::from_rdata(asked.name().clone(), 60, data.clone()));
    }
    if !records.keys().any(|(known, _)| *known == name) {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    answer
}
