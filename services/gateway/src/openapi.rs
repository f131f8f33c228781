//! The OpenAPI document, made from the same types that the API takes and gives.

use lethe_exchange::EventWire;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::asks::{Approve, Close, FindLineage, Lift, Nothing, OpenCase};
use crate::callbacks::CallbackView;
use crate::events::{EventResults, IntakeKeyList};
use crate::problem::{PROBLEM_MEDIA_TYPE, Problem};
use crate::views::{
    AcceptedView, CasePage, CaseView, CheckView, ConformanceView, HealthView, LineageView, PartitionList,
    PlanView, QuarantineList, QuarantinedInput, QuarantinedView, RetriedView, ScanView, SystemList,
    TopicList,
};

type Make = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What an operation answers.
enum Answer {
    Json(&'static str, Make),
    Bytes(&'static str, &'static str),
}

struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    body: Option<Make>,
    answer: Answer,
    is_command: bool,
}

const fn get(path: &'static str, id: &'static str, summary: &'static str, answer: Answer) -> Operation {
    Operation {
        method: "get",
        path,
        id,
        summary,
        body: None,
        answer,
        is_command: false,
    }
}

const fn post(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    body: Make,
    answer: Answer,
) -> Operation {
    Operation {
        method: "post",
        path,
        id,
        summary,
        body: Some(body),
        answer,
        is_command: false,
    }
}

const fn command(path: &'static str, id: &'static str, summary: &'static str, body: Make) -> Operation {
    let answer = Answer::Json("202", of::<AcceptedView>);
    Operation {
        method: "post",
        path,
        id,
        summary,
        body: Some(body),
        answer,
        is_command: true,
    }
}

const OPERATIONS: [Operation; 32] = [
    get(
        "/v1/cases",
        "cases",
        "Cases, newest first.",
        Answer::Json("200", of::<CasePage>),
    ),
    command("/v1/cases", "open_case", "Open a case.", of::<OpenCase>),
    get(
        "/v1/cases/{id}",
        "case",
        "One case; with wait_ms once it has ended or waits for a person.",
        Answer::Json("200", of::<CaseView>),
    ),
    get(
        "/v1/cases/{id}/plan",
        "plan",
        "The newest plan of a case.",
        Answer::Json("200", of::<PlanView>),
    ),
    command(
        "/v1/cases/{id}/approve",
        "approve",
        "Approve a plan by its digest.",
        of::<Approve>,
    ),
    command(
        "/v1/cases/{id}/withdraw",
        "withdraw",
        "The person takes the request back.",
        of::<Nothing>,
    ),
    command(
        "/v1/cases/{id}/lift",
        "lift",
        "End a restriction, after the person was told.",
        of::<Lift>,
    ),
    command(
        "/v1/cases/{id}/replan",
        "replan",
        "Make a new plan for a case that needs attention.",
        of::<Nothing>,
    ),
    command(
        "/v1/cases/{id}/close",
        "close",
        "Close a case as not completed, with a signed statement.",
        of::<Close>,
    ),
    get(
        "/v1/cases/{id}/certificate",
        "certificate",
        "The newest certificate or statement of a case.",
        Answer::Bytes("200", "application/json"),
    ),
    get(
        "/v1/cases/{id}/certificates/{certificate}",
        "earlier_certificate",
        "One of the certificates and statements of a case, by its id.",
        Answer::Bytes("200", "application/json"),
    ),
    get(
        "/v1/cases/{id}/opening",
        "opening",
        "What opens the commitment to the person in the case's certificates; for the person, and for whoever may check for them.",
        Answer::Bytes("200", "application/json"),
    ),
    post(
        "/v1/lineage",
        "lineage",
        "The lineage of the person behind identifiers.",
        of::<FindLineage>,
        Answer::Json("200", of::<LineageView>),
    ),
    get(
        "/v1/partitions",
        "partitions",
        "Who folds each partition of lineage, and how far behind.",
        Answer::Json("200", of::<PartitionList>),
    ),
    get(
        "/v1/topics",
        "topics",
        "How long what was ended may still stand in each topic of the log, and what was found about it.",
        Answer::Json("200", of::<TopicList>),
    ),
    get(
        "/v1/systems",
        "systems",
        "All systems.",
        Answer::Json("200", of::<SystemList>),
    ),
    post(
        "/v1/systems/{name}/check",
        "system_check",
        "Check that a system can be reached and allows what it declares.",
        of::<Nothing>,
        Answer::Json("200", of::<CheckView>),
    ),
    post(
        "/v1/systems/{name}/scan",
        "start_scan",
        "Start the scan of a system, unless it runs.",
        of::<Nothing>,
        Answer::Json("202", of::<ScanView>),
    ),
    get(
        "/v1/systems/{name}/scan",
        "scan",
        "How far the scan of a system is.",
        Answer::Json("200", of::<ScanView>),
    ),
    post(
        "/v1/systems/{name}/conformance",
        "connector_check",
        "Run the conformance suite against a live system.",
        of::<Nothing>,
        Answer::Json("200", of::<ConformanceView>),
    ),
    get(
        "/v1/quarantine",
        "quarantine",
        "Inputs that could not be read, newest first.",
        Answer::Json("200", of::<QuarantineList>),
    ),
    get(
        "/v1/quarantine/{position}",
        "quarantined",
        "One input that could not be read, with what it is.",
        Answer::Json("200", of::<QuarantinedInput>),
    ),
    post(
        "/v1/quarantine/{position}/drop",
        "drop_quarantined",
        "Take an input out of the count: somebody has seen that it hides nobody.",
        of::<Nothing>,
        Answer::Json("200", of::<QuarantinedView>),
    ),
    post(
        "/v1/quarantine/{position}/retry",
        "retry_quarantined",
        "Take an input in again, after the settings or a mapping were mended.",
        of::<Nothing>,
        Answer::Json("200", of::<RetriedView>),
    ),
    post(
        "/v1/events",
        "publish",
        "Publish events, at most 1000 and 4 MiB, gzip where wanted: one result for each, in their order.",
        of::<Vec<EventWire>>,
        Answer::Json("200", of::<EventResults>),
    ),
    get(
        "/v1/intake-keys",
        "intake_keys",
        "The keys that publishers seal to, the newest first.",
        Answer::Json("200", of::<IntakeKeyList>),
    ),
    post(
        "/v1/intake-keys/renew",
        "renew_intake_key",
        "Make a new intake key; publishers may seal to the others for a week more.",
        of::<Nothing>,
        Answer::Json("200", of::<IntakeKeyList>),
    ),
    post(
        "/v1/callbacks/{system}/{instruction}",
        "called_back",
        "A remote connector says that an instruction is done: signed as Standard Webhooks has it, without a key of the API.",
        of::<Nothing>,
        Answer::Json("202", of::<CallbackView>),
    ),
    get(
        "/v1/policy",
        "policy",
        "The policy for verifiers of this server's certificates.",
        Answer::Bytes("200", "application/octet-stream"),
    ),
    get(
        "/healthz",
        "health",
        "Whether the server works.",
        Answer::Json("200", of::<HealthView>),
    ),
    get(
        "/readyz",
        "ready",
        "Whether the server can take work.",
        Answer::Json("200", of::<HealthView>),
    ),
    get(
        "/metrics",
        "metrics",
        "Metrics in Prometheus' text format.",
        Answer::Bytes("200", "text/plain"),
    ),
];

/// The OpenAPI 3.1 document of the API.
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    for operation in &OPERATIONS {
        let value = described(operation, &problem, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.to_owned(), value);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lethe",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Cases, plans, lineage, systems and proofs. Identifiers of people stand in bodies only, never in addresses. \
                Unknown fields are refused. Problems follow RFC 9457 and carry a stable code.",
        },
        "servers": [{ "url": "http://127.0.0.1:7380" }],
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn described(operation: &Operation, problem: &Schema, generator: &mut SchemaGenerator) -> Value {
    let (status, content) = match &operation.answer {
        Answer::Json(status, make) => (
            *status,
            json!({ "application/json": { "schema": make(generator) } }),
        ),
        Answer::Bytes(status, media_type) => (*status, json!({ *media_type: {} })),
    };
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters(operation, generator),
        "responses": {
            status: { "description": "done, or taken on", "content": content },
            "default": { "description": "a problem", "content": { PROBLEM_MEDIA_TYPE: { "schema": problem } } },
        },
    });
    if matches!(operation.id, "cases" | "case" | "plan") {
        value["responses"]["200"]["headers"] = json!({ "Age": {
            "description": "For how many seconds what happened may be missing in the answer: more than some where the server is cut off from its log.",
            "schema": { "type": "integer", "minimum": 0 },
        } });
    }
    let is_health = matches!(operation.id, "health" | "ready");
    if is_health {
        let not_well = json!({ "description": "not in order: what is in the way", "content": value["responses"]["200"]["content"] });
        value["responses"]["503"] = not_well;
    }
    if is_health || operation.id == "called_back" {
        value["security"] = json!([]);
    }
    if let (Some(make), Some(value)) = (operation.body, value.as_object_mut()) {
        let schema = make(generator);
        let mut content = json!({ "application/json": { "schema": schema } });
        if operation.id == "publish" {
            content["application/cloudevents-batch+json"] = json!({ "schema": schema });
            content["application/x-ndjson"] = json!({ "schema": generator.subschema_for::<EventWire>() });
        }
        let body = json!({ "required": true, "content": content });
        value.insert("requestBody".to_owned(), body);
    }
    value
}

fn case_filters(generator: &mut SchemaGenerator) -> [(&'static str, Value, &'static str); 6] {
    [
        (
            "state",
            json!(generator.subschema_for::<lethe_terms::CaseState>()),
            "Only cases in this state.",
        ),
        (
            "right",
            json!(generator.subschema_for::<lethe_terms::Right>()),
            "Only cases of this right.",
        ),
        (
            "overdue",
            json!({ "type": "boolean" }),
            "Only cases whose answer is overdue.",
        ),
        (
            "waiting",
            json!({ "type": "boolean" }),
            "Only cases that wait for a person.",
        ),
        (
            "page",
            json!({ "type": "string" }),
            "The page, as the page before named it.",
        ),
        (
            "limit",
            json!({ "type": "integer", "minimum": 1, "maximum": 500 }),
            "Most cases on a page.",
        ),
    ]
}

fn parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut parameters = Vec::new();
    for name in ["id", "certificate", "name", "position", "system", "instruction"] {
        if operation.path.contains(&format!("{{{name}}}")) {
            parameters.push(
                json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
            );
        }
    }
    parameters.extend(in_query(operation.id, generator));
    if operation.is_command {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "maxLength": 255 },
            "description": "The same key again is the same command: it has the effect of once.",
        }));
    }
    parameters
}

/// What may stand in the query of an operation.
fn in_query(id: &str, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut parameters = Vec::new();
    let mut query = |name: &str, schema: Value, text: &str| {
        parameters.push(json!({ "name": name, "in": "query", "schema": schema, "description": text }));
    };
    match id {
        "case" => {
            query(
                "wait_ms",
                json!({ "type": "integer", "minimum": 0 }),
                "Wait at most so long, in milliseconds.",
            );
            query(
                "after",
                json!({ "type": "integer", "minimum": 0 }),
                "Wait for a later revision than this.",
            );
        }
        "cases" => {
            for (name, schema, text) in case_filters(generator) {
                query(name, schema, text);
            }
        }
        "partitions" => query("hash", json!({ "type": "boolean" }), "Also the hash of all rows."),
        "quarantine" => {
            query(
                "system",
                json!({ "type": "string" }),
                "Only inputs of this system.",
            );
            query(
                "before",
                json!({ "type": "integer", "minimum": 0 }),
                "Only inputs that are older than the one of this number.",
            );
            query(
                "limit",
                json!({ "type": "integer", "minimum": 1, "maximum": 500 }),
                "Most inputs.",
            );
        }
        _ => {}
    }
    parameters
}
