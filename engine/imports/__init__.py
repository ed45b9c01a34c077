"""Old runs of other tools as runs of ours: TensorBoard, Trackio, and what transformers and TRL leave behind.

`find.sources` says what runs a path holds; `bring.bring` writes one into the database. A reader per tool gives each run as a
`source.Source`: where it is from, its points one by one, and what is known of it. Nothing foreign is executed or unpickled.
"""
