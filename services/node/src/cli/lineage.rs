//! `lethe lineage`.

use std::path::Path;

use lethe_gateway::asks::FindLineage;
use lethe_gateway::client::Client;
use lethe_gateway::{lineage_dot, lineage_svg, words};

use super::args::LineageArgs;
use super::exit::{Error, Exit};
use super::identifiers;
use super::talk::{Talk, table};

/// Shows where a person's data is.
pub(super) async fn run(client: &Client, args: LineageArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    if talk.json && (args.dot || args.svg.is_some()) {
        return Err(Error::Usage {
            expected: "one of --json, --dot and --svg".to_owned(),
        });
    }
    let identifiers = identifiers::read(&args.identifiers, &mut std::io::stdin().lock())?;
    let view = client.lineage(&FindLineage { identifiers }).await?;
    if talk.json {
        talk.data(&view)?;
    } else if args.dot {
        talk.print(&lineage_dot(&view))?;
    } else if args.svg.as_deref() == Some(Path::new("-")) {
        talk.bytes(lineage_svg(&view).as_bytes(), None)?;
    } else {
        if let Some(file) = &args.svg {
            talk.bytes(lineage_svg(&view).as_bytes(), Some(file))?;
        }
        let rows: Vec<Vec<String>> = view
            .records
            .iter()
            .map(|record| {
                vec![
                    record.system.clone(),
                    record.dataset.clone(),
                    words::grouped(record.count),
                    words::path(&record.path),
                    record.link.clone().unwrap_or_else(|| "-".to_owned()),
                ]
            })
            .collect();
        talk.print(&table(
            &["system", "dataset", "rows or lines", "reached by", "hangs on"],
            &rows,
        ))?;
        let rows = view.records.iter().map(|record| record.count).sum();
        let records = words::counted(view.records.len() as u64, "record");
        talk.say(&format!("{records}, one a line; {} in them", words::rows(rows)));
        if view.records.iter().any(|record| record.link.is_some()) {
            talk.say("hangs on: the one link of the picture (--dot) without which the record would not be reached; - where there are several");
        }
    }
    if view.candidates_behind_shared > 0 {
        talk.say(&words::behind_shared(view.candidates_behind_shared));
    }
    if let Some(code) = &view.cut_off {
        talk.say(&format!(
            "this is not everything: the walk came to a bound before it had reached all ({code})"
        ));
        return Ok(Exit::Unknown);
    }
    if !view.complete {
        talk.say("this is not everything: a part of lineage lags behind, or a system was not read to its end (lethe system list)");
        return Ok(Exit::Unknown);
    }
    let hidden = view.quarantined > 0;
    if hidden {
        let inputs = words::counted(view.quarantined, "input");
        talk.say(&format!(
            "{inputs} in quarantine may hide records of this person (lethe log quarantine list)"
        ));
    }
    if view.records.is_empty() {
        talk.say("no record of this person is known");
        return Ok(if hidden { Exit::Unknown } else { Exit::No });
    }
    Ok(Exit::Yes)
}
