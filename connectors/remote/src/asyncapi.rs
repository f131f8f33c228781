//! The AsyncAPI document, made from the same types that are sent and read.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::message::{AnswerMessage, RequestMessage, VERSION};
use crate::webhook;

/// A call of the contract with the answers that it may have.
struct Operation {
    call: &'static str,
    summary: &'static str,
    answers: &'static [&'static str],
}

const fn operation(call: &'static str, summary: &'static str, answers: &'static [&'static str]) -> Operation {
    Operation {
        call,
        summary,
        answers,
    }
}

const OPERATIONS: [Operation; 8] = [
    operation(
        "manifest",
        "What the program declares of itself.",
        &["manifest", "failed"],
    ),
    operation(
        "check",
        "Whether its system can be reached and allows what the manifest says.",
        &["checked", "failed"],
    ),
    operation(
        "feed",
        "Records that appeared, changed or left since a cursor.",
        &["page", "failed"],
    ),
    operation(
        "locate",
        "The person's records, by identifiers.",
        &["located", "failed"],
    ),
    operation(
        "perform",
        "Erase, restrict or lift.",
        &["done", "accepted", "refused", "failed"],
    ),
    operation(
        "poll",
        "How far an accepted instruction is.",
        &["done", "accepted", "refused", "failed"],
    ),
    operation(
        "observe",
        "What is there now, by another path than the work's.",
        &["observed", "failed"],
    ),
    operation("export", "The person's data.", &["exported", "failed"]),
];

/// How an entry of a topic differs from a POST.
const SEALED: &str = "the key of the entry is webhook-id, its value is sealed as connectors/remote/README.md tells, and it has no headers.";

/// Name of the one message that a program sends by itself.
const CALLBACK: &str = "callback";

/// The AsyncAPI 3.0 document of what Lethe sends to a remote connector and takes from it.
pub fn asyncapi() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let request = of::<RequestMessage>(&mut generator);
    let answer = of::<AnswerMessage>(&mut generator);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Lethe: remote connectors",
            "version": VERSION.to_string(),
            "description": "What Lethe asks of a connector that is a program elsewhere, and what it answers: one POST a call, signed on both sides \
                            as Standard Webhooks 1.0.0 says, or one entry of a topic, sealed. connectors/remote/README.md tells how to write one.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": {
            "requests": {
                "title": "Requests",
                "description": "The URL that the configuration of the system names.",
                "address": null,
                "messages": references("components", OPERATIONS.iter().map(|o| request_name(o.call))),
            },
            "answers": {
                "title": "Answers",
                "description": "The body of the HTTP response. The status is not signed and says nothing.",
                "address": null,
                "messages": references("components", answers().map(answer_name)),
            },
            "request_topic": {
                "title": "Requests, over Kafka",
                "description": format!("The same requests, sealed; {SEALED}"),
                "address": "lethe.requests.{system}",
                "parameters": { "system": { "description": "The system, as Lethe's configuration names it." } },
                "messages": references("components", OPERATIONS.iter().map(|o| request_name(o.call))),
                "bindings": { "kafka": { "partitions": 1, "bindingVersion": "0.5.0" } },
            },
            "reply_topic": {
                "title": "Answers, over Kafka",
                "description": format!("The same answers, sealed, under the key of their request; {SEALED}"),
                "address": "lethe.replies.{system}",
                "parameters": { "system": { "description": "The system, as Lethe's configuration names it." } },
                "messages": references("components", answers().map(answer_name)),
                "bindings": { "kafka": { "partitions": 1, "bindingVersion": "0.5.0" } },
            },
            "callbacks": {
                "title": "Callbacks",
                "description": "On Lethe's API: that an instruction which was accepted is worth asking about. Nothing in it is believed; Lethe asks at once.",
                "address": "/v1/callbacks/{system}/{instruction}",
                "parameters": {
                    "system": { "description": "The system, as Lethe's configuration names it." },
                    "instruction": { "description": "The instruction; webhook-id as well." },
                },
                "messages": references("components", std::iter::once(CALLBACK.to_owned())),
            },
        },
        "operations": operations(),
        "components": {
            "messages": messages(&request, &answer),
            "messageTraits": { "signed": { "headers": headers() } },
            "schemas": generator.take_definitions(true),
        },
    })
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn request_name(call: &str) -> String {
    format!("{call}_request")
}

fn answer_name(answer: &str) -> String {
    format!("{answer}_answer")
}

/// Every answer, each once, in the order of the calls.
fn answers() -> impl Iterator<Item = &'static str> {
    let mut seen = Vec::new();
    for answer in OPERATIONS.iter().flat_map(|operation| operation.answers) {
        if !seen.contains(answer) {
            seen.push(answer);
        }
    }
    seen.into_iter()
}

/// `name: {"$ref": …}` for each.
fn references(place: &str, names: impl Iterator<Item = String>) -> Map<String, Value> {
    let reference = |name: String| {
        let target = json!({ "$ref": format!("#/{place}/messages/{name}") });
        (name, target)
    };
    names.map(reference).collect()
}

/// One way on which the calls are made.
struct Way {
    /// Behind the name of each operation.
    suffix: &'static str,
    requests: &'static str,
    answers: &'static str,
    bindings: fn() -> Value,
}

const WAYS: [Way; 2] = [
    Way {
        suffix: "",
        requests: "requests",
        answers: "answers",
        bindings: posted,
    },
    Way {
        suffix: "_over_kafka",
        requests: "request_topic",
        answers: "reply_topic",
        bindings: || json!({ "kafka": { "bindingVersion": "0.5.0" } }),
    },
];

fn posted() -> Value {
    json!({ "http": { "method": "POST", "bindingVersion": "0.3.0" } })
}

impl Way {
    fn operation(&self, operation: &Operation) -> (String, Value) {
        let messages = |channel: &str, names: Vec<String>| -> Vec<Value> {
            let reference = |name| json!({ "$ref": format!("#/channels/{channel}/messages/{name}") });
            names.into_iter().map(reference).collect()
        };
        let answers = operation.answers.iter().map(|answer| answer_name(answer));
        let value = json!({
            "action": "send",
            "summary": operation.summary,
            "channel": { "$ref": format!("#/channels/{}", self.requests) },
            "messages": messages(self.requests, vec![request_name(operation.call)]),
            "bindings": (self.bindings)(),
            "reply": {
                "channel": { "$ref": format!("#/channels/{}", self.answers) },
                "messages": messages(self.answers, answers.collect()),
            },
        });
        (format!("{}{}", operation.call, self.suffix), value)
    }
}

fn operations() -> Map<String, Value> {
    let callback = json!({
        "action": "receive",
        "summary": "An instruction that was accepted is worth asking about.",
        "channel": { "$ref": "#/channels/callbacks" },
        "messages": [{ "$ref": format!("#/channels/callbacks/messages/{CALLBACK}") }],
        "bindings": posted(),
    });
    WAYS.iter()
        .flat_map(|way| OPERATIONS.iter().map(|operation| way.operation(operation)))
        .chain(std::iter::once((CALLBACK.to_owned(), callback)))
        .collect()
}

fn messages(request: &Schema, answer: &Schema) -> Map<String, Value> {
    let requests = OPERATIONS.iter().map(|operation| {
        let name = request_name(operation.call);
        (name, message(request, "call", operation.call, operation.summary))
    });
    let answers = answers().map(|said| {
        let summary = format!("The answer `{said}`.");
        (answer_name(said), message(answer, "answer", said, &summary))
    });
    let callback = json!({
        "name": CALLBACK,
        "summary": "Any body; only its signature counts.",
        "contentType": "application/json",
        "traits": [{ "$ref": "#/components/messageTraits/signed" }],
        "payload": { "type": "object" },
    });
    requests
        .chain(answers)
        .chain(std::iter::once((CALLBACK.to_owned(), callback)))
        .collect()
}

/// A message of a type whose one variant is meant.
fn message(whole: &Schema, field: &str, variant: &str, summary: &str) -> Value {
    let variant = json!({ "properties": { field: { "type": "object", "required": [variant] } } });
    json!({
        "name": format!("{field}.{}", variant["properties"][field]["required"][0].as_str().unwrap_or_default()),
        "summary": summary,
        "contentType": "application/json",
        "traits": [{ "$ref": "#/components/messageTraits/signed" }],
        "payload": { "allOf": [whole, variant] },
    })
}

fn headers() -> Value {
    json!({
        "type": "object",
        "required": [webhook::ID, webhook::TIMESTAMP, webhook::SIGNATURE],
        "properties": {
            webhook::ID: {
                "type": "string",
                "pattern": "^[A-Za-z0-9_-]{1,63}$",
                "description": "Id of the request, the same in its answer. Of perform it is the instruction.",
            },
            webhook::TIMESTAMP: {
                "type": "string",
                "pattern": "^[0-9]+$",
                "description": format!(
                    "When it was sent, in seconds since 1970. More than {} s away from the reader's clock it is refused.",
                    webhook::TOLERANCE_S
                ),
            },
            webhook::SIGNATURE: {
                "type": "string",
                "description": "Signatures over id.timestamp.body, separated by blanks: v1,<base64 of HMAC-SHA256> or v1a,<base64 of Ed25519>.",
            },
        },
    })
}
