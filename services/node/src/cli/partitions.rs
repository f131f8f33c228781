//! `lethe log partitions`.

use lethe_gateway::client::Client;
use lethe_gateway::words;

use super::exit::{Error, Exit};
use super::log_args::PartitionsArgs;
use super::talk::{Talk, table};

/// Shows who folds each partition of lineage.
pub(super) async fn run(client: &Client, args: &PartitionsArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let list = client.partitions(args.hash).await?;
    if talk.json {
        talk.data(&list)?;
    } else {
        let row = |one: &lethe_gateway::views::PartitionView| {
            vec![
                one.partition.to_string(),
                one.process.clone().unwrap_or_else(|| "-".to_owned()),
                one.behind
                    .map_or_else(|| "nobody answers".to_owned(), words::grouped),
            ]
        };
        let rows: Vec<_> = list.partitions.iter().map(row).collect();
        talk.print(&table(&["partition", "process", "behind"], &rows))?;
        if let Some(hash) = &list.state_hash {
            talk.print(&format!("state hash {hash}\n"))?;
        }
    }
    let all = list.partitions.iter().all(|one| one.behind == Some(0));
    Ok(if all { Exit::Yes } else { Exit::Unknown })
}
