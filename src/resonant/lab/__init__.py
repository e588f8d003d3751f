"""The laboratory: models trained and compared on data of many kinds. Needs the extra ``lab``."""
