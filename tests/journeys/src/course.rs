//! What an operator does, one case after the other. Every answer is noted at once, so that the course goes on after a kill where it
//! stood; a command whose answer was lost is sent again under its key.

use std::time::Duration;

use serde_json::{Value, json};

/// Time for one answer: beyond the longest wait that is asked for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Time for the hash of all rows: what the server takes for it at most.
const HASH_TIME_MAX: Duration = Duration::from_secs(600);

/// How long the server may hold a request for a case, in milliseconds.
const WAIT_MS: u64 = 10_000;

/// How often something is looked at that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The server went away before it answered, or could not tell: try again.
#[derive(Debug)]
pub struct Away;

/// Talks to the API.
pub struct Api {
    http: reqwest::Client,
    url: String,
}

impl Api {
    pub fn new(url: &str) -> Self {
        // Another test of this program may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            http: reqwest::Client::new(),
            url: url.to_owned(),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder, time: Duration) -> Result<(u16, Vec<u8>), Away> {
        let response = request.timeout(time).send().await.map_err(|_| Away)?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|_| Away)?.to_vec();
        // Not known, or not now: what an operator does is to try again.
        if matches!(status, 503 | 504) {
            return Err(Away);
        }
        Ok((status, body))
    }

    pub async fn get(&self, path: &str) -> Result<Vec<u8>, Away> {
        self.get_within(path, ANSWER_TIME_MAX).await
    }

    async fn get_within(&self, path: &str, time: Duration) -> Result<Vec<u8>, Away> {
        let request = self.http.get(format!("{}{path}", self.url));
        let (status, body) = self.send(request, time).await?;
        assert_eq!(status, 200, "GET {path}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// Status and body, whatever the status.
    pub async fn any(&self, path: &str) -> Result<(u16, String), Away> {
        let request = self.http.get(format!("{}{path}", self.url));
        let response = request.timeout(ANSWER_TIME_MAX).send().await.map_err(|_| Away)?;
        let status = response.status().as_u16();
        Ok((status, response.text().await.map_err(|_| Away)?))
    }

    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Value, Away> {
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("idempotency-key", key)
            .json(body);
        let (status, body) = self.send(request, ANSWER_TIME_MAX).await?;
        assert!(
            (200..300).contains(&status),
            "POST {path}: {status} {}",
            String::from_utf8_lossy(&body)
        );
        Ok(serde_json::from_slice(&body).unwrap())
    }

    pub async fn case(&self, id: &str) -> Result<Value, Away> {
        Ok(serde_json::from_slice(&self.get(&format!("/v1/cases/{id}")).await?).unwrap())
    }

    /// The case once it is in `state`; a state that it cannot come from ends the test.
    pub async fn case_in(&self, id: &str, state: &str) -> Result<Value, Away> {
        let mut case = self.case(id).await?;
        loop {
            let now = case["state"].as_str().unwrap();
            if now == state {
                return Ok(case);
            }
            let on_the_way = [
                "received",
                "accepted",
                "planned",
                "awaiting_approval",
                "acting",
                "observing",
            ];
            assert!(
                on_the_way.contains(&now),
                "case is {now}, not on its way to {state}: {case:#}"
            );
            let after = &case["revision"];
            case = serde_json::from_slice(
                &self
                    .get(&format!("/v1/cases/{id}?wait_ms={WAIT_MS}&after={after}"))
                    .await?,
            )
            .unwrap();
        }
    }

    /// Has a system scanned to the end.
    pub async fn scan(&self, system: &str) -> Result<(), Away> {
        let path = format!("/v1/systems/{system}/scan");
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let scan: Value = serde_json::from_slice(&self.get(&path).await?).unwrap();
            match scan["state"].as_str().unwrap() {
                "finished" => return Ok(()),
                "running" => {}
                other => panic!("the scan of {system} is {other}: {scan:#}"),
            }
            looks.tick().await;
        }
    }
}

impl Api {
    /// Asks for a scan of a system.
    pub async fn ask_for_scan(&self, system: &str) -> Result<(), Away> {
        let path = format!("/v1/systems/{system}/scan");
        self.post(&path, &format!("scan-{system}"), &json!({}))
            .await
            .map(drop)
    }

    /// The hash of the rows of all owners of lineage as they are now.
    pub async fn state_hash(&self) -> Result<String, Away> {
        let list = self.get_within("/v1/partitions?hash=true", HASH_TIME_MAX).await?;
        let list: Value = serde_json::from_slice(&list).unwrap();
        Ok(list["state_hash"].as_str().unwrap().to_owned())
    }

    /// Records that a system's feed published since the server started.
    pub async fn records(&self, system: &str) -> Result<u64, Away> {
        let scan: Value =
            serde_json::from_slice(&self.get(&format!("/v1/systems/{system}/scan")).await?).unwrap();
        Ok(scan["records"].as_u64().unwrap())
    }
}

/// One case from its opening to its end.
#[derive(Debug, Default)]
pub struct Course {
    right: &'static str,
    email: String,
    key: String,
    /// The case, once the server said that it was accepted.
    pub id: Option<String>,
    digest: Option<String>,
    approved: bool,
    /// Steps in the database by the plans that were carried out.
    pub steps: u64,
    completed: bool,
    lift_asked: bool,
    /// Whether everything that was asked for has been seen to be done.
    pub done: bool,
}

impl Course {
    /// A case that is to come. The key stands for its commands, whatever happens to their answers.
    pub fn new(right: &'static str, email: &str, key: String) -> Self {
        Self {
            right,
            email: email.to_owned(),
            key,
            ..Self::default()
        }
    }

    /// Goes on from where it stood. A restriction is lifted once it is in force.
    pub async fn go_on(&mut self, api: &Api) -> Result<(), Away> {
        if self.id.is_none() {
            let ask =
                json!({ "right": self.right, "identifiers": [{ "kind": "email", "value": self.email }] });
            let accepted = api.post("/v1/cases", &format!("{}-open", self.key), &ask).await?;
            self.id = Some(accepted["case"].as_str().unwrap().to_owned());
        }
        let id = self.id.clone().unwrap();
        if self.digest.is_none() {
            let planned = api.case_in(&id, "awaiting_approval").await?;
            self.digest = Some(planned["plan_digest"].as_str().unwrap().to_owned());
        }
        if !self.approved {
            let ask = json!({ "plan_digest": self.digest });
            api.post(
                &format!("/v1/cases/{id}/approve"),
                &format!("{}-approve", self.key),
                &ask,
            )
            .await?;
            self.approved = true;
        }
        if !self.completed {
            self.steps += steps_in_database(&api.case_in(&id, "completed").await?);
            self.completed = true;
        }
        if self.right == "restriction" {
            self.lift(api, &id).await?;
        }
        self.done = true;
        Ok(())
    }

    async fn lift(&mut self, api: &Api, id: &str) -> Result<(), Away> {
        if !self.lift_asked {
            let received = api.case(id).await?["received_at"].clone();
            let ask = json!({ "notified_at": received });
            api.post(
                &format!("/v1/cases/{id}/lift"),
                &format!("{}-lift", self.key),
                &ask,
            )
            .await?;
            self.lift_asked = true;
        }
        let lifted = api.case_in(id, "completed").await?;
        assert_eq!(
            lifted["flags"],
            json!([]),
            "a lifted restriction is in force: {lifted:#}"
        );
        self.steps += steps_in_database(&lifted);
        Ok(())
    }
}

fn steps_in_database(case: &Value) -> u64 {
    let steps = case["steps"].as_array().unwrap();
    assert!(
        steps.iter().all(|step| step["state"] == "verified"),
        "a completed case has steps that are not verified: {case:#}"
    );
    // A step that only looks leaves nothing in the database.
    let acts = |step: &&Value| step["system"] == "shop" && step["verb"] != "observe";
    steps.iter().filter(acts).count() as u64
}
