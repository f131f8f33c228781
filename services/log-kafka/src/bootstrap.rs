//! Clients that have lost every broker are given the first ones again.
//!
//! A broker that comes back names, for a moment, a cluster without any broker. librdkafka then drops all that it knew, and at times what it was to
//! begin with as well; after that it never asks anybody anything (librdkafka, issue 5301). Only its statistics tell, and they come to whoever polls
//! the client.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafka;

use crate::Error;

/// How often a client tells its statistics, in milliseconds: so late is noticed that it knows nobody. Telling takes it about a millisecond.
pub(crate) const STATISTICS_MS: &str = "2000";

/// Before what the statistics say of each broker.
const SOURCE: &str = r#""source":""#;

/// Brokers of the configuration and of the cluster, before the state of each. Others stand for a role, such as the coordinator of a group, and lead
/// nowhere without them.
const KNOWN: [&str; 2] = [r#"configured", "state":""#, r#"learned", "state":""#];

/// A broker that the client gave up is so until nobody holds it any more, which may be never; one that is only away is tried again at once.
const GIVEN_UP: &str = "DOWN";

/// Whether there is anybody whom a client with these statistics can ask, or tries to.
fn knows_somebody(statistics: &str) -> bool {
    let known = |broker| KNOWN.iter().find_map(|known| str::strip_prefix(broker, known));
    let mut states = statistics.split(SOURCE).skip(1).filter_map(known);
    states.any(|state| !state.starts_with(GIVEN_UP))
}

/// The way of one client to its first brokers.
#[derive(Debug, Clone)]
pub(crate) struct WayBack {
    bootstrap: Arc<CString>,
    client: Arc<AtomicPtr<RDKafka>>,
}

impl WayBack {
    pub(crate) fn new(bootstrap: &str) -> Result<Self, Error> {
        let no_text = |_| Error::Settings("bootstrap holds a zero byte".to_owned());
        Ok(Self {
            bootstrap: Arc::new(CString::new(bootstrap).map_err(no_text)?),
            client: Arc::default(),
        })
    }

    /// That of another client, which is not made yet.
    pub(crate) fn of_another(&self) -> Self {
        Self {
            bootstrap: Arc::clone(&self.bootstrap),
            client: Arc::default(),
        }
    }

    /// Says whose way it is: that of the client which has it in its context, and of no other.
    pub(crate) fn of<C: ClientContext>(&self, client: &Client<C>) {
        self.client.store(client.native_ptr(), Ordering::Release);
    }

    /// Looks at what the client told, in the callback to which it told it.
    pub(crate) fn look(&self, statistics: &[u8]) {
        if !knows_somebody(&String::from_utf8_lossy(statistics)) {
            self.take();
        }
    }

    #[expect(unsafe_code, reason = "rdkafka has no call for it that is safe")]
    fn take(&self) {
        let client = self.client.load(Ordering::Acquire);
        if client.is_null() {
            return;
        }
        tracing::warn!("a client had lost all brokers: it begins with the first ones again");
        // SAFETY: the client is alive, for this is a callback of its own, and librdkafka copies the string.
        unsafe { rd_kafka_brokers_add(client, self.bootstrap.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use rdkafka::consumer::Consumer as _;

    use super::knows_somebody;
    use crate::clients::Clients;
    use crate::settings::KafkaSettings;

    #[test]
    fn a_client_knows_nobody_whose_brokers_are_those_that_it_gave_up() {
        let broker = |source: &str, state: &str| {
            format!(r#"{{ "nodename":"b:1", "source":"{source}", "state":"{state}", "stateage":1 }}"#)
        };
        assert!(!knows_somebody(r#"{ "brokers":{ } }"#));
        let coordinator = broker("logical", "UP");
        let given_up = format!("{coordinator}{}", broker("learned", "DOWN"));
        assert!(!knows_somebody(&given_up));
        for (source, state) in [
            ("configured", "TRY_CONNECT"),
            ("learned", "UP"),
            ("learned", "INIT"),
        ] {
            assert!(knows_somebody(&format!("{given_up}{}", broker(source, state))));
        }
    }

    /// A client that nobody helps is lost about every tenth time.
    const CLIENTS: usize = 24;

    const PATIENCE: Duration = Duration::from_secs(30);
    const LOOK_TIME_MAX: Duration = Duration::from_millis(500);

    /// What a broker says of the cluster, where it answers.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Says {
        /// It ends each connection.
        Nothing,
        /// That nobody is in it, as a broker does that was let in again a moment ago.
        Nobody,
        Itself,
    }

    /// Only what a client asks first: which requests there are, and who is in the cluster (Kafka protocol, ApiVersions 0 and Metadata 1).
    struct Broker {
        at: SocketAddr,
        says: Arc<Mutex<Says>>,
    }

    impl Broker {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (at, says) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Says::Itself)));
            let broker = Self {
                at,
                says: Arc::clone(&says),
            };
            std::thread::spawn(move || {
                for client in listener.incoming().map_while(Result::ok) {
                    let says = Arc::clone(&says);
                    std::thread::spawn(move || while answer(&client, at, &says).is_some() {});
                }
            });
            broker
        }

        fn begins_to_say(&self, says: Says) {
            *self.says.lock().unwrap() = says;
        }
    }

    fn answer(mut client: &TcpStream, at: SocketAddr, says: &Mutex<Says>) -> Option<()> {
        let mut length = [0; 4];
        client.read_exact(&mut length).ok()?;
        let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()?];
        client.read_exact(&mut request).ok()?;
        let says = *says.lock().unwrap();
        let number = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        let mut answer = request[4..8].to_vec();
        match (number(0), number(2), says) {
            (_, _, Says::Nothing) => return None,
            (18, version, _) => answer.extend(versions(version)),
            (3, _, says) => answer.extend(metadata(at, says)),
            _ => return None,
        }
        let length = u32::try_from(answer.len()).ok()?.to_be_bytes();
        client.write_all(&[&length[..], &answer].concat()).ok()
    }

    fn versions(asked: u16) -> Vec<u8> {
        const UNSUPPORTED: u16 = 35;
        let error = if asked == 0 { 0 } else { UNSUPPORTED };
        let mut answer = error.to_be_bytes().to_vec();
        answer.extend(2_u32.to_be_bytes());
        for (request, newest) in [(3_u16, 1_u16), (18, 0)] {
            answer.extend(
                [request, 0, newest]
                    .iter()
                    .flat_map(|number| number.to_be_bytes()),
            );
        }
        answer
    }

    fn metadata(at: SocketAddr, says: Says) -> Vec<u8> {
        const NO_LEADER: u16 = 5;
        let (id, nobody) = (1_u32.to_be_bytes(), (-1_i32).to_be_bytes());
        let is_there = says == Says::Itself;
        let mut answer = u32::from(is_there).to_be_bytes().to_vec();
        if is_there {
            answer.extend(id);
            answer.extend([&9_u16.to_be_bytes()[..], b"127.0.0.1"].concat());
            answer.extend(u32::from(at.port()).to_be_bytes());
            // No rack.
            answer.extend((-1_i16).to_be_bytes());
        }
        answer.extend(if is_there { id } else { nobody });
        // One topic with one partition.
        answer.extend(1_u32.to_be_bytes());
        answer.extend([&[0, 0, 0, 1][..], b"t", &[0]].concat());
        answer.extend(1_u32.to_be_bytes());
        answer.extend(if is_there { 0 } else { NO_LEADER }.to_be_bytes());
        answer.extend(0_u32.to_be_bytes());
        answer.extend(if is_there { id } else { nobody });
        // One replica, in sync.
        for _ in 0..2 {
            answer.extend(1_u32.to_be_bytes());
            answer.extend(id);
        }
        answer
    }

    /// Has a client meet a broker that goes, comes back and knows nobody, and then itself, a few times.
    fn outlives() {
        let broker = Broker::start();
        let clients = Clients::new(&KafkaSettings::new(broker.at.to_string())).unwrap();
        let until_seen = |expected: Option<usize>| {
            let until = Instant::now() + PATIENCE;
            loop {
                clients.tend();
                let seen = clients.asking.fetch_metadata(Some("t"), LOOK_TIME_MAX);
                if seen.ok().map(|seen| seen.brokers().len()) == expected {
                    return;
                }
                assert!(Instant::now() < until, "{expected:?} is not seen");
            }
        };
        for _ in 0..3 {
            until_seen(Some(1));
            broker.begins_to_say(Says::Nothing);
            until_seen(None);
            broker.begins_to_say(Says::Nobody);
            until_seen(Some(0));
            broker.begins_to_say(Says::Itself);
        }
        until_seen(Some(1));
    }

    #[test]
    fn clients_that_were_told_that_nobody_is_there_find_whoever_is_there_later() {
        let clients: Vec<_> = (0..CLIENTS).map(|_| std::thread::spawn(outlives)).collect();
        for client in clients {
            client.join().unwrap();
        }
    }
}
