"""The pages and charts: tagging, evaluation, training, one track."""
