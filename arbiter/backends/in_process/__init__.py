"""Models in process, through transformers: generators and scorers that batch what is waiting (the extra ``pocket``)."""
