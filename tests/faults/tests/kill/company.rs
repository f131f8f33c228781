//! A small company: its database, its logs, Lethe's configuration for both; and what an auditor finds in them afterwards.

use std::path::{Path, PathBuf};

use lethe_world::seed::Database;
use lethe_world::tables::TABLES;
use lethe_world::{World, audit, logs, seed};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::Row;

/// How many people the company knows: enough for the cast and for bystanders.
const PEOPLE: u32 = 30;

/// Lines in its logs: each of the cast is named in every file.
const LINES: u64 = 900;

/// The end of its past, in seconds since 1970.
const ENDS: i64 = 1_790_000_000;

pub(crate) struct Company {
    pub(crate) world: World,
    folder: PathBuf,
    database: String,
    logs: Vec<PathBuf>,
}

impl Company {
    pub(crate) async fn found(folder: &Path, seed: u64) -> Self {
        let mut world = World::new(seed, PEOPLE, ENDS).unwrap();
        world.log_lines = LINES;
        let database = format!("sqlite:{}", folder.join("shop.db").display());
        seed::seed(&world, &mut Database::connect(&database).await.unwrap())
            .await
            .unwrap();
        let logs = logs::write(&world, &folder.join("logs")).unwrap();
        Self {
            world,
            folder: folder.to_owned(),
            database,
            logs,
        }
    }

    /// The reference configuration on this company; compaction follows at once, so that kills hit it as well.
    pub(crate) fn configure(&self, port: u16) -> PathBuf {
        let folder = self.folder.display().to_string();
        let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/config/lethe.toml");
        let told: String = std::fs::read_to_string(reference)
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with("observe_url"))
            .map(|line| {
                if line.starts_with("reopen") {
                    "reopen = [\"true\"]\n".to_owned()
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        let told = told
            .replace("/var/lib/lethe", &format!("{folder}/lethe"))
            .replace("127.0.0.1:7380", &format!("127.0.0.1:{port}"))
            .replace("postgres://lethe@127.0.0.1:5432/shop", &self.database)
            .replace("/var/log/nginx", &format!("{folder}/logs"));
        let config = self.folder.join("lethe.toml");
        std::fs::write(
            &config,
            format!("compact_after_s = 2\nfeed_every_ms = 200\n{told}"),
        )
        .unwrap();
        config
    }

    /// The erased person is gone, the amounts stayed, and everybody else's rows and lines are as they were; of the person whose
    /// restriction was lifted only the time of the last change may differ.
    pub(crate) async fn audit(&self) {
        let mut report = audit::Report::default();
        let mut database = Database::connect(&self.database).await.unwrap();
        audit::database(&self.world, &mut database, true, &mut report)
            .await
            .unwrap();
        audit::amounts(&self.world, &mut database, &mut report)
            .await
            .unwrap();
        audit::logs(&self.world, &self.logs, None, true, &mut report).unwrap();
        let restricted = self.world.colleague();
        let touched: Vec<String> = TABLES
            .iter()
            .flat_map(|table| {
                table.rows(&self.world, &restricted).into_iter().map(|row| {
                    let id = row.cells[0].shown(lethe_world::tables::Dialect::Sqlite);
                    format!(
                        "table {}: row {id:?} of somebody else is not as it was (updated_at)",
                        table.name
                    )
                })
            })
            .collect();
        report.findings.retain(|finding| !touched.contains(finding));
        assert!(
            report.holds() && report.more == 0,
            "{:#?} and {} more",
            report.findings,
            report.more
        );
    }

    /// Rows of the instruction table, and none of them for the same step of the same plan.
    pub(crate) async fn instructions(&self) -> u64 {
        let Database::Sqlite(mut database) = Database::connect(&self.database).await.unwrap() else {
            panic!("not SQLite")
        };
        let twice = "select count(*) from (select 1 from lethe_instructions group by plan_index, step having count(*) > 1)";
        let twice: i64 = sqlx::query(twice).fetch_one(&mut database).await.unwrap().get(0);
        assert_eq!(twice, 0, "a step of a plan had effect under two instructions");
        let set_aside: i64 = sqlx::query("select count(*) from orders_restricted")
            .fetch_one(&mut database)
            .await
            .unwrap()
            .get(0);
        assert_eq!(
            set_aside, 0,
            "orders are set aside although the restriction was lifted"
        );
        let all: i64 = sqlx::query("select count(*) from lethe_instructions")
            .fetch_one(&mut database)
            .await
            .unwrap()
            .get(0);
        u64::try_from(all).unwrap()
    }

    /// Values of the two people, each as it is and as other programs write it.
    fn canaries(&self) -> Vec<Vec<u8>> {
        let mut values = audit::marks(&self.world);
        for person in [self.world.subject(), self.world.colleague()] {
            values.extend([person.email, person.user_id, person.full_name, person.street]);
            values.extend(
                person
                    .phone
                    .iter()
                    .flat_map(|phone| [phone.clone(), phone.replace(' ', "")]),
            );
        }
        let spelled = values.iter().flat_map(|value| {
            let value = value.to_lowercase();
            [
                hex::encode(&value),
                utf8_percent_encode(&value, NON_ALPHANUMERIC)
                    .to_string()
                    .to_lowercase(),
                value,
            ]
        });
        spelled.map(String::into_bytes).collect()
    }

    /// Files below a folder that hold a clear value of either person.
    pub(crate) fn leaks(&self, below: &Path) -> Vec<PathBuf> {
        let canaries = self.canaries();
        let mut found = Vec::new();
        for entry in walkdir::WalkDir::new(below)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
        {
            let bytes = std::fs::read(entry.path()).unwrap().to_ascii_lowercase();
            if canaries.iter().any(|canary| holds(&bytes, canary)) {
                found.push(entry.into_path());
            }
        }
        found
    }
}

/// Whether the bytes hold the value. Looks for the first byte before it compares, which is what makes an unoptimised build bearable.
fn holds(bytes: &[u8], value: &[u8]) -> bool {
    let (Some(first), mut rest) = (value.first(), bytes) else {
        return false;
    };
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(value) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}
