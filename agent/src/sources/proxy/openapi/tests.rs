//! Documents in both forms, names and precedence, and that no document breaks the reader.

use proptest::prelude::*;

use super::*;

pub(crate) const YAML: &str = r##"
openapi: 3.1.0
info: {title: Orders, version: "1"}
servers:
  - url: https://api.example.com/{stage}
    variables:
      stage: {default: v1, enum: [v1, v2]}
x-shared: &shared
  get: {operationId: list_orders, responses: {"200": {description: ok}}}
paths:
  /orders:
    <<: *shared
    post:
      operationId: createOrder
      requestBody:
        content: {application/json: {schema: {$ref: "#/components/schemas/Order"}}}
  /orders/{orderId}:
    parameters: [{name: orderId, in: path, required: true}]
    get: {operationId: getOrder}
    delete: {}
  /orders/mine:
    get: {operationId: orders.mine}
  /orders/{id}:cancel:
    post: {operationId: cancelOrder}
  /orders/{orderId}/items/{item_id}:
    put: {operationId: put-item}
  /reports/{year}-{month}.{format}:
    get: {operationId: getReport}
  /shared:
    $ref: "#/components/pathItems/Shared"
  /outside:
    $ref: "./other.yaml#/x"
components:
  schemas: {Order: {type: object}}
  pathItems:
    Shared: {patch: {operationId: patchShared}}
"##;

fn named(routes: &Routes, method: &str, path: &str) -> Option<String> {
    let found = routes.find(method, path)?;
    let parameters: Vec<String> = found.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some(format!("{} {}", found.operation.name, parameters.join(" ")).trim_end().to_owned())
}

#[test]
fn operations_are_named_by_their_ids_and_concrete_paths_go_first() {
    let routes = parse(YAML.as_bytes()).unwrap();
    for (method, path, expected) in [
        ("GET", "/orders", Some("ListOrders")),
        ("GET", "/v1/orders", Some("ListOrders")),
        ("POST", "/v1/orders", Some("CreateOrder")),
        ("GET", "/v1/orders/7", Some("GetOrder orderId=7")),
        ("HEAD", "/v1/orders/7", Some("GetOrder orderId=7")),
        ("DELETE", "/v1/orders/7", Some("DeleteOrders orderId=7")),
        ("GET", "/v1/orders/mine", Some("OrdersMine")),
        ("GET", "/v1/orders/min%65", Some("OrdersMine")),
        // A concrete path without the method is no reason to miss the templated one.
        ("DELETE", "/v1/orders/mine", Some("DeleteOrders orderId=mine")),
        ("POST", "/orders/a%20b:cancel", Some("CancelOrder id=a b")),
        ("PUT", "/orders/7/items/x", Some("PutItem orderId=7 item_id=x")),
        ("GET", "/reports/2026-01.pdf", Some("GetReport year=2026 month=01 format=pdf")),
        ("PATCH", "/shared", Some("PatchShared")),
        ("GET", "/reports/2026.pdf", None),
        ("GET", "/outside", None),
        ("GET", "/v2/orders", None),
        ("GET", "/orders/", None),
        ("PUT", "/orders", None),
        ("GET", "orders", None),
        ("OPTIONS", "*", None),
    ] {
        assert_eq!(named(&routes, method, path).as_deref(), expected, "{method} {path}");
    }
}

#[test]
fn json_and_swagger_2_are_read_as_well() {
    let json = br#"{"swagger": "2.0", "basePath": "/api/", "paths": {"/pets/{id}": {"get": {"operationId": "pets_get"}, "parameters": []}}}"#;
    let routes = parse(json).unwrap();
    assert_eq!(named(&routes, "GET", "/api/pets/a%2Fb").as_deref(), Some("PetsGet id=a/b"));
    assert_eq!(routes.len(), 2);
}

#[test]
fn what_is_no_description_is_refused_with_the_reason() {
    for (text, expected) in [
        ("", "not an OpenAPI"),
        ("just text", "not an OpenAPI"),
        ("[]", "not an OpenAPI"),
        ("info: {title: x}", "not an OpenAPI"),
        ("openapi: 3.0.0\npaths: [a]", "shape"),
        ("{\"openapi\": 3}", "shape"),
        ("a: [", "neither JSON nor YAML"),
        ("openapi: 3.0.0\nx: *unknown", "neither JSON nor YAML"),
    ] {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    assert!(parse(b"openapi: 3.0.0\npaths:\n").unwrap().is_empty());
    assert!(matches!(parse(b"\xff\xfe"), Err(DocumentError::Syntax(_))));
}

#[test]
fn aliases_that_multiply_and_nesting_without_end_are_stopped_at_a_bound() {
    let mut bomb = "openapi: 3.0.0\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(parse(bomb.as_bytes()).unwrap_err().to_string().contains("aliases"));
    let deep = format!("openapi: {}", "[".repeat(100_000));
    assert!(parse(deep.as_bytes()).is_err());
    let deep = format!("openapi: {}{}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(parse(deep.as_bytes()).is_err());
}

#[test]
fn a_document_cut_at_any_byte_never_panics() {
    let json = serde_json::to_string(&yaml::parse(YAML).unwrap()).unwrap();
    for text in [YAML, &json] {
        for end in 0..text.len() {
            if let Ok(routes) = parse(&text.as_bytes()[..end]) {
                let _unread = routes.find("GET", "/v1/orders/7");
            }
        }
    }
}

/// What is found without the tree: each template as a list of segments, compared one by one.
fn slow(templates: &[String], path: &str) -> Option<String> {
    let fits = |template: &&String| {
        let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
        template.len() == path.len()
            && template.iter().zip(&path).all(|(part, segment)| part == segment || part.starts_with('{') && !segment.is_empty())
    };
    // The most concrete first, from the left.
    let rank = |template: &&String| template.split('/').map(|part| part.starts_with('{')).collect::<Vec<_>>();
    templates.iter().filter(fits).min_by_key(rank).cloned()
}

proptest! {
    #[test]
    fn the_tree_finds_what_comparing_every_template_finds(
        parts in prop::collection::btree_set(prop::collection::vec(prop::sample::select(vec!["a", "b", "{x}"]), 1..5), 1..12),
        path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..5),
    ) {
        let templates: Vec<String> = parts.iter().map(|parts| format!("/{}", parts.join("/"))).collect();
        let mut routes = Routes::default();
        for template in &templates {
            routes.add("GET", "", template, Some(template)).unwrap();
        }
        let path = format!("/{}", path.join("/"));
        prop_assert_eq!(routes.find("GET", &path).map(|found| found.operation.path.clone()), slow(&templates, &path));
    }

    #[test]
    fn any_text_is_a_document_or_refused(text in "[a-z:{}\\[\\]&*<\\-\\n \"'|>#/$]{0,60}") {
        let text = format!("openapi: 3.0.0\npaths:\n  /a/{{b}}: {{get: {{}}}}\n{text}");
        if let Ok(routes) = parse(text.as_bytes()) {
            let _unread = routes.find("GET", "/a/b");
        }
    }
}
