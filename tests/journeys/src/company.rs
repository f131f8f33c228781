//! A small company: its database, its logs, Lethe's configuration for both; and what an auditor finds in them afterwards.

use std::path::{Path, PathBuf};

use lethe_world::seed::Database;
use lethe_world::{World, audit, logs, seed};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::Row;

/// How many people a small company knows: enough for the cast and for bystanders.
pub const PEOPLE: u32 = 30;

/// Lines in a small company's logs: each of the cast is named in every file.
pub const LINES: u64 = 900;

/// The end of its past, in seconds since 1970.
const ENDS: i64 = 1_790_000_000;

pub struct Company {
    pub world: World,
    folder: PathBuf,
    database: String,
    logs: Vec<PathBuf>,
}

impl Company {
    /// Fills the company's systems below `folder`.
    pub async fn found(folder: &Path, seed: u64, people: u32, lines: u64) -> Self {
        let mut world = World::new(seed, people, ENDS).unwrap();
        world.log_lines = lines;
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

    /// The reference configuration on this company, with `first` in front of it.
    pub fn configure(&self, port: u16, first: &str) -> PathBuf {
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
        std::fs::write(&config, format!("{first}\n{told}")).unwrap();
        config
    }

    /// The erased person is gone, the amounts stayed, and everybody else's rows and lines are as they were; of the person whose
    /// restriction was lifted only the time of the last change may differ.
    pub async fn audit(&self) {
        self.audit_after([self.world.colleague_index()]).await;
    }

    /// As [`Self::audit`], with other people whose restriction was lifted.
    pub async fn audit_after(&self, lifted: impl IntoIterator<Item = u32>) {
        let mut report = audit::Report {
            lifted: lifted.into_iter().collect(),
            ..audit::Report::default()
        };
        let mut database = Database::connect(&self.database).await.unwrap();
        audit::database(&self.world, &mut database, true, &mut report)
            .await
            .unwrap();
        audit::amounts(&self.world, &mut database, &mut report)
            .await
            .unwrap();
        audit::logs(&self.world, &self.logs, None, true, &mut report).unwrap();
        assert!(report.holds(), "{:#?} and {} more", report.findings, report.more);
    }

    /// Rows of the instruction table, and none of them for the same step of the same plan.
    pub async fn instructions(&self) -> u64 {
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
    pub fn leaks(&self, below: &Path) -> Vec<PathBuf> {
        let canaries = self.canaries();
        let mut found = Vec::new();
        for entry in walkdir::WalkDir::new(below)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
        {
            let bytes = std::fs::read(entry.path()).unwrap().to_ascii_lowercase();
            if canaries
                .iter()
                .any(|canary| memchr::memmem::find(&bytes, canary).is_some())
            {
                found.push(entry.into_path());
            }
        }
        found
    }
}
