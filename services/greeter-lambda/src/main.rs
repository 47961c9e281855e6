//! The `greeter-lambda` function.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), chassis::Error> {
    greeter_lambda::run().await
}
