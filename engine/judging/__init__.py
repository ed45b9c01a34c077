"""A language model as the judge of base and tuned answers: through any endpoint that speaks OpenAI's protocol."""
