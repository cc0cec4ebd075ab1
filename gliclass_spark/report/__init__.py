"""HTML reports of pipeline runs and of retrainings. Importing the package loads neither matplotlib nor jinja2."""
