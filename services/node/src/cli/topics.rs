//! `lethe log topics`.

use lethe_gateway::client::Client;

use super::exit::{Error, Exit};
use super::talk::{Talk, table};

/// Shows how long what was ended may still stand in each topic, and what is not as declared.
pub(super) async fn run(client: &Client, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let list = client.topics().await?;
    if talk.json {
        talk.data(&list)?;
    } else {
        let row = |one: &lethe_gateway::views::TopicView| {
            vec![
                one.topic.clone(),
                one.kind.clone(),
                one.gone_by.clone(),
                one.findings.join("; "),
            ]
        };
        let rows: Vec<_> = list.topics.iter().map(row).collect();
        talk.print(&table(&["topic", "kind", "gone by", "not as declared"], &rows))?;
        if let Some(pending) = &list.pending {
            talk.print(&format!("certificates say {pending}\n"))?;
        }
    }
    Ok(if !list.looked {
        Exit::Unknown
    } else if list.topics.iter().any(|topic| !topic.findings.is_empty()) {
        Exit::No
    } else {
        Exit::Yes
    })
}
