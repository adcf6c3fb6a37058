//! A message that does not conform is told to a webhook, and its sender does not wait for that.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use gateway::drain::Drained;

use crate::support::{PATIENCE, Site, post, web};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_schema_refuses_is_told_to_the_webhook_and_what_it_lets_in_is_not() {
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", receiver.local_addr().unwrap());
    let site = Site::shipped();
    let notices = format!("notices: {{ url: \"{url}\", secret: {} }}\n", "s3cr3t-".repeat(5));
    site.write("gateway.yaml", &site.config_text(&notices));
    let running = site.start().await;
    let path = "/telemetry/7/temperature";
    assert_eq!(post(web(&running), path, "{\"f\":50,\"unit\":\"F\"}").await.status, 202);
    assert_eq!(post(web(&running), path, "{\"f\":\"hot\",\"unit\":\"F\"}").await.status, 422);
    let (mut stream, _) = timeout(PATIENCE, receiver.accept()).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"]}") {
        let read = timeout(PATIENCE, stream.read_buf(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&bytes));
    }
    stream.write_all(b"HTTP/1.1 204 x\r\n\r\n").await.unwrap();
    let told = String::from_utf8(bytes).unwrap();
    for part in
        ["POST /hook HTTP/1.1", "webhook-signature: v1,", "\"mapping\":\"plant-temperature\"", "\"pointer\":\"/f\""]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(told.matches("\"bridge\":\"web\"").count(), 1, "{told}");
    assert!(!told.contains("s3cr3t"), "{told}");
    assert_eq!(running.drain().await, Drained::Clean);
}
