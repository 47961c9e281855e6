//! The `greeter-caller` function.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    greeter_caller::run().await
}
