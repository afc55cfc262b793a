//! Every route against a source whose answer is known.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::ServiceExt;

use super::*;
use crate::status::{ClusterStatus, ComputeStatus};

struct Fixed(ClusterStatus);

#[async_trait]
impl StatusSource for Fixed {
    async fn status(&self) -> ClusterStatus {
        self.0.clone()
    }
}

fn state(reasons: &[&str]) -> ClusterStatus {
    ClusterStatus {
        version: "0.1.0".to_owned(),
        healthy: reasons.is_empty(),
        reasons: reasons.iter().map(|&reason| reason.to_owned()).collect(),
        compute: Some(ComputeStatus {
            role: "PRIMARY".to_owned(),
            branch: 1,
            applied_lsn: "0/30".to_owned(),
            sealed_lsn: "0/20".to_owned(),
            durable_lsn: "0/10".to_owned(),
            unconfirmed_bytes: 32,
            limits: Vec::new(),
        }),
        log: None,
        page_server: None,
    }
}

async fn ask(state: ClusterStatus, path: &str) -> (StatusCode, String) {
    let handle = PrometheusBuilder::new().build_recorder().handle();
    let request = Request::get(path).body(Body::empty()).expect("a request without a body is valid");
    let answer = router(Arc::new(Fixed(state)), handle).oneshot(request).await.expect("the router never fails");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("the body is in memory").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("all answers are text"))
}

#[tokio::test]
async fn every_route_answers() {
    let cases: &[(&str, &[&str], StatusCode, &str)] = &[
        ("/healthz", &[], StatusCode::OK, "ok 0/10\n"),
        ("/healthz", &["the log does not answer"], StatusCode::SERVICE_UNAVAILABLE, "the log does not answer\n"),
        ("/v1/status", &["slow"], StatusCode::OK, r#""reasons":["slow"]"#),
        ("/v1/status", &[], StatusCode::OK, r#""unconfirmed_bytes":32"#),
        ("/", &[], StatusCode::OK, "<svg"),
        ("/metrics", &[], StatusCode::OK, ""),
        ("/nothing", &[], StatusCode::NOT_FOUND, "/v1/status"),
    ];
    for (path, reasons, status, text) in cases {
        let (found, body) = ask(state(reasons), path).await;
        assert_eq!(found, *status, "{path}");
        assert!(body.contains(text), "{path}: {body}");
    }
}
