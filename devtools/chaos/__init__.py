"""What breaks the product on purpose, and says what did not hold. Not imported by the product."""
