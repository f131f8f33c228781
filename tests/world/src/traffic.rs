//! People who surf while Lethe works: requests to a web server at a steady rate, each with a number of its own, so that an auditor can tell whether a
//! line was lost.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use crate::logs::{Visit, visit};
use crate::{Error, World};

/// How long a request may take before it counts as unanswered.
const REQUEST_MS_MAX: u64 = 5_000;
/// One in so many requests is by one of the cast.
const CAST_EVERY: u64 = 12;

/// What to send and where.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// The server, as `host:port`.
    pub host: String,
    /// Requests a second.
    pub rate: u32,
    /// Once this file is there the subject sends nothing any more; everybody else goes on.
    pub until_file: Option<PathBuf>,
    /// Where the number of each answered request of others than the subject is written, one a line.
    pub answered: Option<PathBuf>,
    /// Ends after so many requests; 0 for never.
    pub count: u64,
}

/// Sends requests until `count` or for ever. An unanswered request is no error: it is only not written down.
pub async fn send(world: &World, traffic: &Traffic) -> Result<(), Error> {
    let mut answered = match &traffic.answered {
        Some(path) => Some((path, File::create(path).map_err(|e| Error::file(path, e))?)),
        None => None,
    };
    let mut beat = tokio::time::interval(Duration::from_secs(1) / traffic.rate.max(1));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut n = 0;
    while traffic.count == 0 || n < traffic.count {
        beat.tick().await;
        n += 1;
        let left = traffic.until_file.as_ref().is_some_and(|path| path.exists());
        let Some((index, request)) = request(world, traffic, n, left) else {
            continue;
        };
        let ok = tokio::time::timeout(
            Duration::from_millis(REQUEST_MS_MAX),
            ask(&traffic.host, &request),
        )
        .await;
        if let (Ok(Ok(())), Some((path, file))) = (ok, &mut answered)
            && index != world.subject_index()
        {
            writeln!(file, "{n}").map_err(|e| Error::file(path, e))?;
        }
    }
    Ok(())
}

/// Request number `n`, and whose it is; nothing where the person has left.
fn request(world: &World, traffic: &Traffic, n: u64, left: bool) -> Option<(u32, String)> {
    let mut rng = world.rng(7, n);
    let cast = [
        world.subject_index(),
        world.namesake_index(),
        world.colleague_index(),
    ];
    let by_cast = n % CAST_EVERY == 1;
    let index = if by_cast {
        cast[(n / CAST_EVERY % 3) as usize]
    } else {
        rng.random_range(0..world.people)
    };
    if left && index == world.subject_index() {
        return None;
    }
    let visit = visit(&world.person(index), &mut rng);
    Some((index, http(&visit, &traffic.host, n)))
}

fn http(visit: &Visit, host: &str, n: u64) -> String {
    let mark = if visit.target.contains('?') { '&' } else { '?' };
    let mut out = format!(
        "GET {}{mark}r={n} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n",
        visit.target
    );
    out.push_str(&format!(
        "X-Forwarded-For: {}\r\nUser-Agent: {}\r\n",
        visit.ip, visit.agent
    ));
    if let Some(user_id) = &visit.user_id {
        out.push_str(&format!("X-User: {user_id}\r\n"));
    }
    if let Some(referrer) = &visit.referrer {
        out.push_str(&format!("Referer: {referrer}\r\n"));
    }
    out.push_str("\r\n");
    out
}

/// Sends one request and reads its answer to the end.
async fn ask(host: &str, request: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 ") {
        Ok(())
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic() -> Traffic {
        Traffic {
            host: "127.0.0.1:1".into(),
            rate: 1,
            until_file: None,
            answered: None,
            count: 0,
        }
    }

    #[test]
    fn the_subject_stops_when_they_have_left_and_the_others_go_on() {
        let world = World::new(7, 200, 1_790_000_000).unwrap();
        let who = |left| {
            (1..2000)
                .filter_map(move |n| request(&world, &traffic(), n, left))
                .map(|(index, _)| index)
        };
        assert!(who(false).any(|index| index == world.subject_index()));
        assert!(!who(true).any(|index| index == world.subject_index()));
        assert!(who(true).any(|index| index == world.namesake_index()));
        assert!(who(true).any(|index| index == world.colleague_index()));
    }
}
