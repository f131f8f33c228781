//! `lethe log quarantine ...`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_gateway::asks::QuarantineQuery;
use lethe_gateway::client::{Client, ClientError};
use lethe_gateway::views::QuarantinedView;
use lethe_gateway::words;
use serde_json::json;

use super::exit::{Error, Exit};
use super::log_args::{PositionArgs, QuarantineCommand, QuarantineListArgs};
use super::talk::{Talk, table};

/// Carries out a command on the quarantine.
pub(super) async fn run(
    client: &Client,
    command: QuarantineCommand,
    talk: &mut Talk<'_>,
) -> Result<Exit, Error> {
    match command {
        QuarantineCommand::List(args) => list(client, args, talk).await,
        QuarantineCommand::Show(args) => show(client, &args, talk).await,
        QuarantineCommand::Drop(args) => drop_all(client, &args, talk).await,
        QuarantineCommand::Retry(args) => retry_all(client, &args, talk).await,
    }
}

async fn list(client: &Client, args: QuarantineListArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let query = QuarantineQuery {
        system: args.system.map(|name| name.to_string()),
        before: args.before,
        limit: args.limit,
    };
    let list = client.quarantine(&query).await?;
    if talk.json {
        talk.data(&list)?;
    } else {
        let rows: Vec<_> = list.inputs.iter().map(row).collect();
        talk.print(&table(
            &["number", "since", "system", "place", "code", "expected"],
            &rows,
        ))?;
        let shown = u64::try_from(list.inputs.len()).unwrap_or(u64::MAX);
        if shown < list.total {
            talk.say(&format!("{shown} of {}", words::grouped(list.total)));
        }
    }
    Ok(Exit::Yes)
}

fn row(input: &QuarantinedView) -> Vec<String> {
    vec![
        input.position.to_string(),
        input.at.minute(),
        input.system.clone().unwrap_or_default(),
        input.place.clone(),
        input.code.clone(),
        input.expected.clone(),
    ]
}

async fn show(client: &Client, args: &PositionArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    for position in &args.positions {
        let found = client.quarantined(*position).await?;
        if talk.json {
            talk.data(&found)?;
            continue;
        }
        let input = STANDARD.decode(&found.input).unwrap_or_default();
        talk.print(&format!("{}\n", shown(&input)))?;
    }
    Ok(Exit::Yes)
}

/// Input as people read it: what is no UTF-8 is escaped, and so is what would speak to the terminal. A stranger wrote it.
fn shown(input: &[u8]) -> String {
    let mut text = String::new();
    for chunk in input.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if speaks_to_terminals(letter) {
                text.extend(letter.escape_unicode());
            } else {
                text.push(letter);
            }
        }
        text.push_str(&chunk.invalid().escape_ascii().to_string());
    }
    text
}

/// Controls, but for the end of a line and a tab, and what turns the direction in which the rest is read.
fn speaks_to_terminals(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => letter.is_control(),
    }
}

/// An answer; where one of several fails, which were done before it.
fn told<T>(
    answer: Result<T, ClientError>,
    done: usize,
    args: &PositionArgs,
    what: &str,
    talk: &mut Talk<'_>,
) -> Result<T, Error> {
    if answer.is_err() && done > 0 {
        let before: Vec<String> = args.positions[..done].iter().map(u64::to_string).collect();
        talk.say(&format!("{what}: {}; the rest was not", before.join(", ")));
    }
    Ok(answer?)
}

async fn drop_all(client: &Client, args: &PositionArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let mut dropped = Vec::new();
    for position in &args.positions {
        let answer = client.drop_quarantined(*position).await;
        dropped.push(told(answer, dropped.len(), args, "dropped", talk)?);
    }
    if talk.json {
        talk.data(&json!({ "dropped": dropped }))?;
    } else {
        let count = u64::try_from(dropped.len()).unwrap_or(u64::MAX);
        talk.say(&format!("{} dropped", words::counted(count, "input")));
    }
    Ok(Exit::Yes)
}

async fn retry_all(client: &Client, args: &PositionArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let mut retried = Vec::new();
    for position in &args.positions {
        let answer = client.retry_quarantined(*position).await;
        retried.push(told(answer, retried.len(), args, "tried again", talk)?);
    }
    let stay: Vec<_> = retried.iter().filter(|input| !input.taken_in).collect();
    let exit = if stay.is_empty() { Exit::Yes } else { Exit::No };
    if talk.json {
        talk.data(&json!({ "retried": retried }))?;
        return Ok(exit);
    }
    for input in &stay {
        let about = &input.about;
        talk.say(&format!(
            "{} stays: {}: expected {}",
            about.position, about.code, about.expected
        ));
    }
    let count = u64::try_from(retried.len() - stay.len()).unwrap_or(u64::MAX);
    talk.say(&format!("{} taken in", words::counted(count, "input")));
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_shown_as_it_was_written_and_what_would_speak_to_the_terminal_is_escaped() {
        for (input, expected) in [
            (
                "{\"name\":\t\"Zoë Müller\"}\n".as_bytes(),
                "{\"name\":\t\"Zoë Müller\"}\n",
            ),
            (b"\x1b[31mred\x07\r\x7f", r"\u{1b}[31mred\u{7}\u{d}\u{7f}"),
            ("\u{9b}31m".as_bytes(), r"\u{9b}31m"),
            (
                "a\u{202e}b\u{2066}c\u{2069}".as_bytes(),
                r"a\u{202e}b\u{2066}c\u{2069}",
            ),
            ("M\u{fc}ller \u{2014} \u{5d0}".as_bytes(), "Müller — א"),
            // ISO 8859-1, and a letter that breaks off.
            (b"M\xfcller\xe2\x82", r"M\xfcller\xe2\x82"),
            (b"", ""),
        ] {
            assert_eq!(shown(input), expected);
        }
    }
}
