"""The torch modules behind the neural recommenders; each is imported when one is fitted or asked."""
