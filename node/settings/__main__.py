"""`python -m node.settings`: print the table of settings that the README holds."""

from node.settings.reference import markdown

if __name__ == "__main__":
    print(markdown(), end="")
