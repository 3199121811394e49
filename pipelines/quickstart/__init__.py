"""What a run without data or model hub needs: drawn boards, the tiny base model and how it was trained."""
